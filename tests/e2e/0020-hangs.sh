#!/usr/bin/env bash
# A process that is stopped, not killed: the coordinator names it and not those that wait for it, the job
# is ended and starts again; a coordinator that is stopped is seen by weir train. The bits stay the same.
set -eu # also where there is no such file
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
long="--set train.epochs=320 --set eval.every_epochs=160 --set train.checkpoint_every=100 --set train.log_every=50"
train reference 2 2 $long

setsid weir train --config config.yaml --run run --ps 2 --workers 2 $long --max-restarts 1 --set cluster.hang_timeout=3 \
  --set cluster.heartbeat=0.2 >run.log 2>&1 </dev/null &
pid=$!
progress() {
  local step=0
  [ ! -f run/progress ] || read -r step _ <run/progress || true
  echo "$((10#${step:-0}))"
}
number=0
for role in worker ps coordinator; do
  number=$((number + 1))
  for _ in $(seq 1200); do
    [ "$(progress)" -lt $((number * 350 + RANDOM % 100)) ] || break
    kill -0 "$pid" 2>/dev/null || fail "ended at step $(progress): $(tail -n 5 run.log)"
    sleep 0.05
  done
  victim=$(pgrep -s "$pid" -f "bin/weir-$role --config" -n) || fail "no weir-$role of this job"
  kill -STOP "$victim"
  echo "$role $victim" >>victims
  for _ in $(seq 600); do
    [ "$(grep -c 'msg="restart ' run.log)" -lt "$number" ] || break
    sleep 0.1
  done
  [ "$(grep -c 'msg="restart ' run.log)" -eq "$number" ] || fail "nobody missed the $role"
done
got=0
wait "$pid" || got=$?
pid=
[ "$got" -eq 0 ] || fail "ended with $got"
while read -r role victim; do
  case "$role" in
    coordinator) pattern='restart 1 of 1: rank 0 \(coordinator\) was silent' ;;
    *) pattern="restart 1 of 1: rank 0 \(coordinator\): $role [01] \(rank [1-4] on [^ ]+, process $victim\) has been silent for [0-9]+ s, since step [0-9]+; (.*waits? for it; )?resuming from step [0-9]+; " ;;
  esac
  grep -Eq "$pattern" run.log || fail "the $role that was stopped is not named: $(grep 'msg="restart ' run.log)"
done <victims
[ "$(digest run/checkpoints/latest)" = "$(digest reference/checkpoints/latest)" ] || fail "not the bits of the run that never failed"
echo "ok"
