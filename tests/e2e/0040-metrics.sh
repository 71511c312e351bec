#!/usr/bin/env bash
# The page of metrics: well formed, true, and of no harm when those who ask for it mean harm.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
long="--set train.epochs=100000 --set eval.every_epochs=0 --set train.log_every=20 --set cluster.heartbeat=0.2"

for address in :80 127.0.0.1:65536; do
  expect 2 address 'cluster.metrics_address is not HOST:PORT' \
    weir train --config config.yaml --run bad --ps 1 --workers 1 --set "cluster.metrics_address=$address"
done
setsid weir train --config config.yaml --run run --ps 2 --workers 2 $long >run.log 2>&1 </dev/null &
pid=$!
for _ in $(seq 1200); do
  grep -q 'tokens/s' run.log && break
  kill -0 "$pid" 2>/dev/null || fail "ended early"
  sleep 0.1
done
weir ctl --run run checkpoint >/dev/null
url=$("$WEIR_PYTHON" -c 'import json; print(json.load(open("run/control.json"))["metrics"])')
port=${url#http://127.0.0.1:}
expect 7 taken 'in use' weir train --config config.yaml --run second --ps 1 --workers 1 \
  --set "cluster.metrics_address=127.0.0.1:${port%/metrics}"
if command -v promtool >/dev/null; then
  "$WEIR_PYTHON" -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \
    "$url" | promtool check metrics || fail "promtool"
fi
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/scrape.py" "$url" run 2 2 || fail "the page"
expect 0 top '^worker .*waits for$' weir top --run run --once --interval 1
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/top.py" "$url" run || fail "weir top"
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/hostile_http.py" "$url" || fail "hostile clients"
expect 0 status 'worker' weir ctl --run run status --timeout 20
expect 0 stop 'stops' weir ctl --run run stop --no-save
wait "$pid" || true
pid=
expect 8 top-after 'no job is running' weir top --run run
[ ! -e run/control.json ] || fail "control.json stays"
train none 1 1 --set train.epochs=1 --set cluster.metrics_address=
echo "ok"
