#!/usr/bin/env bash
# A job under --max-restarts loses a process of each role at moments of chance, and its newest checkpoint is
# damaged: it ends with the bits of the run that never failed, says which steps it did again, and gives up
# where starting again does not help.
set -eu # also where there is no such file
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
long="--set train.epochs=240 --set eval.every_epochs=120 --set train.checkpoint_every=100 --set train.log_every=50"
train reference 2 2 $long

progress() { # steps done in RUN, by worker 0's account
  local step=0
  [ ! -f "$1/progress" ] || read -r step _ <"$1/progress" || true
  echo "$((10#${step:-0}))"
}
start() { # start RUN [args...]
  local run=$1
  shift
  setsid weir train --config config.yaml --run "$run" --ps 2 --workers 2 $long "$@" >"$run.log" 2>&1 </dev/null &
  pid=$!
}
reach() { # reach RUN STEP: a job of it does this step
  for _ in $(seq 1200); do
    [ "$(progress "$1")" -lt "$2" ] || return 0
    kill -0 "$pid" 2>/dev/null || fail "$1 ended at step $(progress "$1"), before $2: $(tail -n 5 "$1.log")"
    sleep 0.05
  done
  fail "$1: step $2 was not reached in a minute"
}
kill_one() { # kill_one ROLE: the newest of this job
  local victim
  victim=$(pgrep -s "$pid" -f "bin/weir-$1 --config" -n) || fail "no weir-$1 of this job"
  kill -9 "$victim"
}
restarted() { # restarted RUN N: its N-th restart has been told
  for _ in $(seq 600); do
    [ "$(grep -c 'msg="restart ' "$1.log")" -lt "$2" ] || return 0
    sleep 0.1
  done
  fail "$1: no restart $2"
}
finish() { # finish STATUS
  local got=0
  wait "$pid" || got=$?
  pid=
  [ "$got" -eq "$1" ] || fail "ended with $got, not $1"
}

# A rank of each role, at moments that differ from run to run.
start run --max-restarts 2
number=0
for role in worker ps coordinator; do
  number=$((number + 1))
  reach run $((number * 400 + RANDOM % 200))
  kill_one "$role"
  restarted run "$number"
done
finish 0
[ "$(digest run/checkpoints/latest)" = "$(digest reference/checkpoints/latest)" ] || fail "not the bits of the run that never failed"
grep -Eq 'restart 1 of 2: rank [34] \(worker [01]\) was killed by signal 9; resuming from step [0-9]+; (step|no step|steps [0-9]+ to)' run.log || fail "the restart is not told"
[ "$(wc -l <run/restarts.jsonl)" -eq 3 ] || fail "restarts.jsonl has not three lines"
python3 - <<'PY'
import json
def steps(run):
    return [json.loads(line)["step"] for line in open(run + "/metrics.jsonl") if '"kind":"train"' in line]
ours, reference = steps("run"), steps("reference")
assert ours == sorted(set(ours)), "a step stands twice in metrics.jsonl"
assert set(reference) <= set(ours), "steps are missing in metrics.jsonl"
for line in open("run/restarts.jsonl"):
    event = json.loads(line)
    assert (event["from_step"] % 100 == 0 or event["from_step"] == 840) and event["reached_step"] >= event["from_step"], event
PY

# The newest checkpoint is damaged while the job is down: the one before is taken.
start fallback --max-restarts 2
reach fallback 450
kill_one worker
while [ -n "$(pgrep -s "$pid" -f 'bin/weir-(worker|ps|coordinator)')" ]; do sleep 0.01; done
newest=$(readlink fallback/checkpoints/latest)
printf 'x' | dd of="fallback/checkpoints/$newest/dense.safetensors" bs=1 seek=4000 conv=notrunc status=none
finish 0
grep -Eq "checkpoint of step [0-9]+ is damaged" fallback.log || fail "the damaged checkpoint is not told"
[ "$(digest fallback/checkpoints/latest)" = "$(digest reference/checkpoints/latest)" ] || fail "fallback: other bits"

# What would fail again is not started again; what is killed again is started so often and no more.
expect 2 diverged 'holds NaN or infinity: training has diverged; not started again: it would fail again' weir train --config config.yaml --run diverged \
  --ps 1 --workers 1 --max-restarts 9 --set dense.learning_rate=1000 --set sparse.learning_rate=1000 --set loss.temperature=1e-30
start spent --max-restarts 1 --set train.checkpoint_every=0
reach spent 5
kill_one ps
restarted spent 1
grep -q 'starting from nothing; step' spent.log || fail "a start from nothing is not told"
for _ in $(seq 600); do pgrep -s "$pid" -f 'bin/weir-worker' >/dev/null && break; sleep 0.05; done
kill_one worker
finish 137
grep -q 'no more restarts are allowed' spent.log || fail "giving up is not told"
echo "ok"
