#!/usr/bin/env bash
# weir doctor: all is well here; what is made wrong is found, with what to do; nothing stays behind.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
mkdir runs
expect 0 well '0 in the way' weir doctor --run runs
for name in programs launcher hosts versions folder space clocks kernels bfloat16 memory processors blas; do
  grep -qE "^(ok|warn) +$name" well.log || fail "nothing about $name"
done
grep -q '^fail' well.log && fail "something in the way"
expect 0 json '"level": "ok"' env -u OPENBLAS_CORETYPE weir doctor --run runs --json --processes 4
python3 - <<'PY' || fail "the findings are not JSON, or not those"
import json
findings = json.load(open("json.log"))
assert {f["level"] for f in findings} <= {"ok", "warn"}
assert next(f for f in findings if f["name"] == "hosts")["text"] == "4 processes on 1 host"
assert all(f.get("hint") for f in findings if f["level"] == "warn")
PY

expect 1 nowhere 'make it first' weir doctor --run nothing
touch file
expect 1 file 'cannot write' weir doctor --run file
OPENBLAS_CORETYPE=Haswell expect 0 blas 'in the way' weir doctor --run runs
if grep -q 'x86-64 level v4' blas.log; then
  grep -qE '^warn +blas' blas.log || fail "a BLAS told to be older is not found"
fi
mkdir bin
cp "$WEIR_BIN/weir" "$WEIR_BIN/weir-coordinator" "$WEIR_BIN/weir-probe" "$WEIR_BIN/weir-ps" bin
expect 1 missing 'weir-worker cannot be run' bin/weir doctor --run runs
printf '#!/bin/sh\necho weir-worker 9.9.9\n' >bin/weir-worker
chmod +x bin/weir-worker
expect 1 other 'says "weir-worker 9.9.9"' bin/weir doctor --run runs
expect 1 launcher 'no launcher of this' env PATH=/nothing "$WEIR_BIN/weir" doctor --run runs
printf '#!/bin/sh\n[ "$1" = --version ] && echo "mpirun (Open MPI) 4.1.4" && exit 0\nexit 7\n' >bin/mpirun
chmod +x bin/mpirun
expect 1 agent 'ended with status 7' env PATH="$PWD/bin:$PATH" "$WEIR_BIN/weir" doctor --run runs

# A port of the range is taken.
python3 - <<'PY' &
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for port in range(31100, 31132):
    try:
        s.bind(("0.0.0.0", port))
        break
    except OSError:
        pass
s.listen()
open("listening", "w").write("1")
while not __import__("os").path.exists("enough"):
    time.sleep(0.05)
PY
listener=$!
for _ in $(seq 100); do [ ! -e listening ] || break; sleep 0.1; done
expect 1 ports '[1-9][0-9]* taken' weir doctor --run runs --ports 31100-31131
touch enough
wait "$listener"
expect 2 range 'FIRST-LAST|ports' weir doctor --run runs --ports 80-90
[ -z "$(ls -A runs)" ] || fail "left behind: $(ls -A runs)"
