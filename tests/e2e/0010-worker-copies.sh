#!/usr/bin/env bash
# Copies of rows that workers keep save bytes and change nothing, not by a bit: with any number of processes,
# with pulls ahead, a second table, rows that leave, resumed. Outside bsp they are refused.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 240 6000
make_config
base="--set loss.negatives=8"
copies="--set sparse.worker_cache_rows=4000"

same() { # same RUN RUN: bit for bit the same state
  digest "$1" >"$1.digest"
  digest "$2" >"$2.digest"
  [ -s "$1.digest" ] || fail "$1: nothing to compare"
  diff "$1.digest" "$2.digest" || fail "$2 differs from $1"
}
sum() { # sum RUN MEMBER: over the lines of training
  python3 - "$1" "$2" <<'PY'
import json, sys
lines = [r for r in map(json.loads, open(f"{sys.argv[1]}/metrics.jsonl")) if r["kind"] == "train"]
assert lines
print(sum(r[sys.argv[2]] for r in lines))
PY
}
holds() { # holds EXPRESSION NUMBER...: a, b, .. in the expression are the numbers
  python3 -c 'import sys; a, b = (list(map(float, sys.argv[2:])) + [0.0])[:2]; sys.exit(not eval(sys.argv[1]))' "$@" ||
    fail "$1 does not hold for ${*:2}"
}

for workers in 1 2; do
  train "none$workers" 2 $workers $base
  for ahead in 0 3; do
    train "copies$workers-$ahead" 2 $workers $base $copies --set train.pull_ahead=$ahead
    same "none$workers" "copies$workers-$ahead"
    holds "a > 0" "$(sum "copies$workers-$ahead" rows_left_out_per_step)"
    holds "a > 0" "$(sum "copies$workers-$ahead" rows_copied_per_step)"
  done
done
holds "a > 0" "$(sum copies1-0 bytes_saved_per_step)"
holds "a < b" "$(sum copies1-0 bytes_pulled_per_step)" "$(sum none1 bytes_pulled_per_step)"
holds "a == 0" "$(sum none2 rows_left_out_per_step)"
train servers 3 2 $base --set sparse.worker_cache_rows=100
same none2 servers

# A second table, with copies of its own or of it alone.
train users-none 2 2 $base --set model.user_embedding=true
train users-copies 2 2 $base --set model.user_embedding=true $copies --set user.worker_cache_rows=50
train users-alone 1 2 $base --set model.user_embedding=true --set user.worker_cache_rows=240
same users-none users-copies
same users-none users-alone

# Rows in few bits, with state, that expire.
odd="$base --set sparse.precision=int8 --set sparse.optimizer=adamw --set sparse.ttl=4"
train odd-none 2 2 $odd
train odd-copies 2 2 $odd $copies --set train.pull_ahead=2
same odd-none odd-copies

# Resumed: copies begin anew.
train resumed 2 2 $base $copies --set train.max_steps=11
train resumed 1 2 $base $copies --resume
same none2 resumed

for consistency in "asp" "ssp --set train.staleness=1"; do
  expect 2 refused 'worker_cache_rows is 4000 but train.consistency is not bsp' \
    weir train --config config.yaml --run x $copies --set train.consistency=$consistency
done
echo "ok"
