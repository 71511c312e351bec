#!/usr/bin/env bash
# Linear baselines: numpy's numbers on any grid of processes; what does not fit or cannot be is refused.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

compared=0
# compare NAME METHOD PARAMETER HOLDOUT [WEIGHTS]
compare() {
  local name=$1 got=0
  shift
  set -- "$1" "$2" "$3" "$name.json" "${@:4}"
  "$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/baselines.py" data "$@" >"$name.log" 2>&1 || got=$?
  [ "$got" -ne 77 ] || return 0
  [ "$got" -eq 0 ] || fail "$name: $(tail -n 3 "$name.log")"
  compared=$((compared + 1))
}

# The same job on grids of every shape, in blocks that divide nothing.
while read -r processes grid block; do
  name=ease-$grid
  timeout 120 weir baseline ease --data data -n "$processes" --grid "$grid" --block "$block" --lambda 20 \
    --validation --output "$name.st" --json >"$name.json" 2>"$name.err" || fail "$name: $(cat "$name.err")"
  compare "$name" ease 20 2 "$name.st"
done <<'GRIDS'
1 1x1 64
2 1x2 7
2 2x1 16
4 2x2 13
GRIDS

for processes in 1 3; do
  timeout 120 weir baseline knn --data data -n "$processes" --neighbors 10 --json >"knn-$processes.json" 2>knn.err ||
    fail "knn: $(cat knn.err)"
  compare "knn-$processes" knn 10 1
  timeout 120 weir baseline markov --data data -n "$processes" --validation --json >"markov-$processes.json" 2>markov.err ||
    fail "markov: $(cat markov.err)"
  compare "markov-$processes" markov 1 2
done
cmp knn-1.json knn-3.json || fail "knn depends on the number of processes"
cmp markov-1.json markov-3.json || fail "markov depends on the number of processes"

# Of several values the one that is best on validation; then it is fitted again.
expect 0 sweep '"sweep": \[' weir baseline ease --data data -n 2 --lambda 1,20,400 --json
python3 - <<'PY' || fail "the sweep did not take the best"
import json
line = [l for l in open("sweep.log") if l.startswith("{")][-1]
said = json.loads(line)
best = max(said["sweep"], key=lambda s: s["validation"]["ndcg@10"])
assert len(said["sweep"]) == 3 and said["lambda"] == best["lambda"], said
PY

# Refused, with the status that says why, and nothing written.
expect 5 memory 'takes .* GiB of this host' weir baseline ease --data data -n 2 --memory 0.0001 -o no.st
expect 2 grid 'a grid of 2 x 2 is not one of 3' weir baseline ease --data data -n 3 --grid 2x2
expect 8 nodata 'no prepared data' weir baseline knn --data nowhere -n 2
expect 2 lambda 'wants numbers above 0' weir baseline ease --data data --lambda -1
expect 2 neighbors 'wants whole numbers' weir baseline knn --data data --neighbors 1.5
expect 8 output 'nowhere' weir baseline ease --data data -n 2 -o nowhere/no.st
ls no.st* >/dev/null 2>&1 && fail "a refused job left a file"

# Stopped in the middle: says so, leaves nothing.
touch stop.log
weir synth --out larger --users 2000 --items 1200 --seed 5 >/dev/null
weir baseline ease --data larger -n 2 --lambda "$(seq -s, 1 30)" -o no.st >stop.out 2>stop.log &
pid=$!
for _ in $(seq 200); do
  ! grep -q factored stop.log || break
  sleep 0.1
done
kill -INT "$pid"
got=0
wait "$pid" || got=$?
pid=
[ "$got" -eq 12 ] || fail "Ctrl-C: exit status $got: $(cat stop.log)"
! grep -q '^test' stop.out || fail "the job had ended before it was stopped"
ls no.st* >/dev/null 2>&1 && fail "a stopped job left a file"

[ "$compared" -gt 0 ] || { echo "skipped: no numpy to compare with"; exit 77; }
echo "ok: $compared comparisons"
