#!/usr/bin/env bash
# A time limit, RUN/halt and signals end a job with status 12 and a checkpoint of its last step: while it
# starts, while it saves, and while it waits to start again. Two signals end it without saving.
set -eu # also where there is no such file
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
long="--set train.epochs=1000000 --set eval.every_epochs=0 --set train.log_every=50"

progress() {
  local step=0
  [ ! -f run/progress ] || read -r step _ <run/progress || true
  echo "$((10#${step:-0}))"
}
saved() { # step of the latest checkpoint
  local name
  name=$(readlink run/checkpoints/latest 2>/dev/null) || name=step-0
  echo "$((10#${name#step-}))"
}
start() { # start [args...]: and wait until it has done a step more
  local before
  before=$(progress)
  setsid weir train --config config.yaml --run run --ps 1 --workers 2 $long "$@" >run.log 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 1200); do
    [ "$(progress)" -le "$before" ] || return 0
    kill -0 "$pid" 2>/dev/null || fail "ended early: $(tail -n 5 run.log)"
    sleep 0.05
  done
  fail "no step in a minute"
}
finish() { # finish STATUS: and it has saved all that it did, unless it was not to
  local got=0
  for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  ! kill -0 "$pid" 2>/dev/null || fail "still running after a minute"
  wait "$pid" || got=$?
  pid=
  case " $1 " in *" $got "*) ;; *) fail "ended with $got, not $1: $(tail -n 5 run.log)" ;; esac
  [ "$got" -ne 12 ] || [ "$(saved)" -eq "$(progress)" ] || fail "saved step $(saved) of $(progress)"
}

# In time, learning from the checkpoints that it has saved; and a limit that does not fit is refused.
expect 2 limit 'time-limit wants' weir train --config config.yaml --run run --time-limit soon
start --time-limit 6s --set train.checkpoint_every=50
begun=$SECONDS
finish 12
[ $((SECONDS - begun)) -le 60 ] || fail "the time limit was passed by far"
grep -q 'time limit comes near' run.log || fail "the time limit is not told"

# By a file; one that an earlier job left means nothing.
touch run/halt
start --resume
[ ! -e run/halt ] || fail "RUN/halt is still there"
expect 0 halt 'stops at the next step' weir ctl --run run halt
finish 12
expect 8 nobody 'no job is running' weir ctl --run run halt

# A signal at any moment of a start: the job saves what it had or had nothing, and says 12.
for tenths in 0 1 2 4 6; do
  setsid weir train --config config.yaml --run run --ps 1 --workers 2 $long --resume >run.log 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 100); do ! grep -q mpirun run.log || break; sleep 0.02; done
  sleep "0.$tenths"
  kill -INT "$pid"
  finish 12
done

# While it saves, over and over.
start --resume --set train.checkpoint_every=1
sleep 0.3
kill -USR1 "$pid"
finish 12

# Twice: at once, and without saving.
start --resume
before=$(saved)
kill -INT "$pid"
kill -INT "$pid"
finish "1 12 143" # or as the launcher says
[ "$(saved)" -ge "$before" ] || fail "a checkpoint is gone"

# While it waits to start again.
start --resume --max-restarts 3
kill -9 "$(pgrep -s "$pid" -f 'bin/weir-ps --config' -n)"
for _ in $(seq 600); do ! grep -q 'msg="restart 1 of 3' run.log || break; sleep 0.05; done
kill -TERM "$pid"
got=0
wait "$pid" || got=$?
pid=
[ "$got" -eq 12 ] || fail "ended with $got, not 12, while it waited"

# A job that saves nothing ends at the first one, and says so.
weir eval --run run --set eval.batch_users=1 >eval.log 2>&1 </dev/null &
pid=$!
for _ in $(seq 200); do [ -z "$(left_behind | grep weir-worker)" ] || break; sleep 0.02; done
kill -TERM "$pid"
got=0
wait "$pid" || got=$?
pid=
[ "$got" -eq 12 ] && grep -q 'stopped on request; nothing was written' eval.log || fail "eval ended with $got, not 12"
echo "ok"
