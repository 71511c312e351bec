#!/usr/bin/env bash
# Pulls ahead hide transfers and change nothing in bsp, not by a bit: with rows answered early, with a second
# table, resumed, interrupted. ssp and asp learn, within the staleness that was asked for.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 240 6000
make_config
base="--set loss.negatives=8"

same() { # same RUN RUN: bit for bit the same state
  digest "$1" >"$1.digest"
  digest "$2" >"$2.digest"
  [ -s "$1.digest" ] || fail "$1: nothing to compare"
  diff "$1.digest" "$2.digest" || fail "$2 differs from $1"
}
mean() { # mean RUN MEMBER: over the lines of training
  python3 - "$1" "$2" <<'PY'
import json, sys
lines = [r for r in map(json.loads, open(f"{sys.argv[1]}/metrics.jsonl")) if r["kind"] == "train"]
assert lines
print(sum(r[sys.argv[2]] for r in lines) / len(lines))
PY
}
holds() { # holds EXPRESSION NUMBER...: a, b, .. in the expression are the numbers
  python3 -c 'import sys; a, b = (list(map(float, sys.argv[2:])) + [0.0])[:2]; sys.exit(not eval(sys.argv[1]))' "$@" ||
    fail "$1 does not hold for ${*:2}"
}

train none 2 2 $base --set train.pull_ahead=0
for ahead in 1 2 8; do
  train "ahead$ahead" 2 2 $base --set train.pull_ahead=$ahead
  same none "ahead$ahead"
done
train servers 3 2 $base --set train.pull_ahead=8
same none servers
holds "a == 0" "$(mean none staleness)"
holds "a == 0" "$(mean ahead8 staleness)"
holds "a > 0" "$(mean ahead1 rows_early_per_step)" # 6,000 items: most rows are of one step alone
holds "a == b" "$(mean none keys_per_step)" "$(mean ahead8 keys_per_step)"

# More workers than a batch has users: some have nothing to pull or to push.
train few-none 2 4 $base --set train.batch_users=2 --set train.max_steps=60 --set train.pull_ahead=0
train few-ahead 2 4 $base --set train.batch_users=2 --set train.max_steps=60 --set train.pull_ahead=8
same few-none few-ahead

# Boundaries in the way of pulls ahead; a resumed run; one that is stopped wherever it is.
train bounds 2 2 $base --set train.pull_ahead=4 --set train.checkpoint_every=3 --set eval.every_steps=5
same none bounds
train resumed 2 2 $base --set train.pull_ahead=3 --set train.max_steps=11
train resumed 1 2 $base --set train.pull_ahead=8 --resume
same none resumed
long="--set train.epochs=150 --set eval.every_epochs=0"
train whole 2 2 $base $long --set train.pull_ahead=0
for signal in 1 2; do
  rm -f broken.log # lines of an earlier start are no sign of this one
  weir train --config config.yaml --run broken --ps 2 --workers 2 $base $long --set train.pull_ahead=8 \
    $([ $signal = 1 ] || echo --resume) >broken.log 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 2400); do
    grep -q 'tokens/s' broken.log 2>/dev/null && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -INT "$pid" 2>/dev/null || true
  got=0
  wait "$pid" || got=$?
  case $got in 0 | 12) ;; *) fail "stopped: status $got" ;; esac
done
train broken 2 2 $base $long --resume
same whole broken

# Users as a second table: the same bits for any number of servers and pulls ahead, and another model.
train users1 1 2 $base --set model.user_embedding=true --set train.pull_ahead=0
train users2 3 2 $base --set model.user_embedding=true --set train.pull_ahead=8
same users1 users2
grep -q '^user/value 240 ' users1.digest || fail "no row for each of the users"
! grep -q '^user/' none.digest || fail "a table of users that nobody asked for"
expect 0 verified 'ok' weir inspect users1 --verify
expect 2 refused 'of another model' weir train --config config.yaml --run users1 --ps 1 --workers 2 --resume

# ssp and asp.
for staleness in 1 4; do
  train "ssp$staleness" 2 2 $base --set train.consistency=ssp --set train.staleness=$staleness --set train.log_every=1
  holds "0 < a <= b" "$(mean "ssp$staleness" staleness)" $staleness
done
train asp 2 2 $base --set train.consistency=asp --set train.log_every=1
python3 - ssp1 ssp4 asp <<'PY' || fail "the loss does not fall"
import json, sys
for run in sys.argv[1:]:
    losses = [r["loss"] for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "train"]
    assert len(losses) == 48, (run, len(losses))
    assert sum(losses[-8:]) < sum(losses[:8]), (run, losses)
PY
expect 2 no-bound 'staleness' weir train --config config.yaml --run x --set train.consistency=ssp
echo "ok"
