#!/usr/bin/env bash
# Ctrl-C saves and ends cleanly; weir ctl talks to a running job; a killed rank ends the job and loses
# nothing that was saved.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
long="--set train.epochs=100000 --set eval.every_epochs=0 --set train.log_every=20"

start() { # start RUN: train in the background, wait for the first line of progress
  local run=$1
  shift
  rm -f "$run.log" # lines of an earlier start are no sign of this one
  setsid weir train --config config.yaml --run "$run" --ps 2 --workers 2 $long "$@" >"$run.log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 1200); do
    grep -q 'tokens/s' "$run.log" 2>/dev/null && return 0
    kill -0 "$pid" 2>/dev/null || fail "$run ended early: $(tail -n 5 "$run.log")"
    sleep 0.1
  done
  fail "$run: no step in two minutes"
}
finish() { # finish STATUS: the background job ends with it
  local got=0
  for _ in $(seq 1200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -0 "$pid" 2>/dev/null && fail "still running after two minutes"
  wait "$pid" || got=$?
  case " $1 " in *" $got "*) ;; *) fail "ended with $got, expected one of: $1" ;; esac
  ended=$got
}

start run
expect 0 status 'worker' weir ctl --run run status
expect 0 status-json '"ranks"' weir ctl --run run status --json
expect 0 checkpoint 'checkpoint' weir ctl --run run checkpoint
[ -f run/checkpoints/latest/manifest.json ] || fail "ctl checkpoint saved nothing"
expect 0 no-wait 'next step' weir ctl --run run checkpoint --no-wait
[ "$(stat -c %a run/control.json)" = 600 ] || fail "control.json is not for its owner alone"
expect 0 beside '"hr@10"' weir eval --run run --json
kill -0 "$pid" || fail "an evaluation ended the job beside it"
expect 7 second 'belongs to a job that is running' weir train --config config.yaml --run run --resume
kill -INT "$pid"
finish 12
expect 0 saved '"step"' weir inspect run --json

start run --resume
expect 0 stop 'stop' weir ctl --run run stop
finish 12
expect 8 gone 'no job|not running' weir ctl --run run status

for role in ps worker coordinator; do
  start run --resume
  before=$(readlink run/checkpoints/latest)
  victim=$(pgrep -s "$pid" -f "bin/weir-$role --config" -n) || fail "no weir-$role of this job"
  kill -9 "$victim"
  finish "1 2 3 4 5 6 9 10 12 137 143"
  [ "$ended" -ne 137 ] || grep -Eq 'signal 9; the newest checkpoint is of step [0-9]+' run.log || fail "no last word of what is left"
  [ "$(readlink run/checkpoints/latest)" = "$before" ] || [ -f run/checkpoints/latest/manifest.json ] || fail "latest is gone"
  expect 8 dead-$role 'no job is running' weir ctl --run run status
  expect 0 after-$role 'ok' weir inspect run --verify
done
start run --resume
kill -TERM "$pid"
finish 12
start run --resume
kill -HUP "$pid"
finish 12
start run --resume
expect 0 stop-discard 'without saving' weir ctl --run run stop --no-save
finish 12
echo "ok"
