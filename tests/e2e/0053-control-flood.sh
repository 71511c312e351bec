#!/usr/bin/env bash
# Strangers flood the control port while a job trains: hundreds of connections, silent ones, garbage, ZeroMQ greetings with
# wrong keys, claims of enormous frames, and some that are cut and made anew at once. They are there before the job: its ranks
# join among them. The job ends as it would have, the coordinator's memory stays bounded, ranks are heard, and `weir ctl` is
# answered meanwhile.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
most=16 # MiB
if [ ! -f "$WEIR_BIN/../tests/through_relay.so" ]; then # under a sanitizer, which keeps what is freed for a while
  export ASAN_OPTIONS="${ASAN_OPTIONS:-}${ASAN_OPTIONS:+:}quarantine_size_mb=1"
  most=128
fi
make_data
make_config
more="--set train.epochs=500 --set eval.every_epochs=250 --set train.checkpoint_every=500 --set train.log_every=100"
train reference 1 2 $more

# Below the ports that connections get, so that the strangers do not take it before the job.
port=$(python3 - <<'PY'
import random
import socket
while True:
    port = random.randrange(20000, 32000)
    with socket.socket() as own:
        try:
            own.bind(("", port))
        except OSError:
            continue
    print(port)
    break
PY
)
(
  while [ ! -e flooding ]; do sleep 0.05; done # the strangers are there first
  exec setsid weir train --config config.yaml --run run --ps 1 --workers 2 $more --set "cluster.port=$port" >run.log 2>&1 </dev/null
) &
pid=$!
timeout -k 5 180 python3 "$WEIR_SOURCE/tests/e2e/flood.py" run "$pid" "$most" "$port" >flood.log 2>&1 || fail "flood: $(cat flood.log)"
got=0
wait "$pid" || got=$?
pid=
[ "$got" -eq 0 ] || fail "the job under a flood ended with $got"
[ "$(digest run/checkpoints/latest)" = "$(digest reference/checkpoints/latest)" ] || fail "not the bits of the run without a flood"
cat flood.log
