#!/usr/bin/env bash
# The connections between ranks and coordinator break for seconds: training goes on, heartbeats come again, and a stop
# that was asked for meanwhile arrives. They break for ever: the job ends at the next checkpoint, by its limit, and what
# was published stays.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
shim="$WEIR_BIN/../tests/through_relay.so"
[ -f "$shim" ] || { echo "skipped: not under sanitizers"; exit 77; }
make_data
make_config
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
RELAY_FROM=$(free_port) RELAY_TO=$(free_port)
export RELAY_FROM RELAY_TO
python3 "$WEIR_SOURCE/tests/e2e/relay.py" "$RELAY_TO" "$RELAY_FROM" "$scratch" >relay.log 2>&1 &
relay=$!

start() { # start RUN [args...]
  local run=$1
  shift
  LD_PRELOAD="$shim" setsid weir train --config config.yaml --run "$run" --ps 2 --workers 2 --set train.epochs=1000000 \
    --set eval.every_epochs=0 --set cluster.heartbeat=0.2 --set cluster.port="$RELAY_FROM" "$@" >"$run.log" 2>&1 </dev/null &
  pid=$!
}
progress() {
  local step=0
  [ ! -f "$1/progress" ] || read -r step _ <"$1/progress" || true
  echo "$((10#${step:-0}))"
}
until_true() { # until_true WHAT COMMAND...: within a minute
  local what=$1
  shift
  for _ in $(seq 600); do
    ! "$@" || return 0
    kill -0 "$pid" 2>/dev/null || fail "the job ended before: $what"
    sleep 0.1
  done
  fail "not within a minute: $what"
}
reached() { [ "$(progress "$1")" -ge "$2" ]; }
oldest() { # oldest LEAST MOST: seconds since the rank was heard that was silent longest
  weir ctl --run run status --json 2>/dev/null | python3 -c '
import json, sys
age = max(rank["heard_seconds_ago"] for rank in json.load(sys.stdin)["ranks"])
sys.exit(not float(sys.argv[1]) <= age <= float(sys.argv[2]))' "$@"
}
ended() { # the job ends within a minute, with $got
  got=0
  for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  ! kill -0 "$pid" 2>/dev/null || fail "the job does not end"
  wait "$pid" || got=$?
}
relay_says() { [ "$(tail -n 1 relay.log)" = "$1" ]; }
cut() { touch cut; until_true "the relay is cut" relay_says cut; }
join() { rm cut; until_true "the relay is joined" relay_says joined; }

start run
until_true "training" reached run 20
until_true "heartbeats through the relay" oldest 0 1.5
cut
until_true "ranks are not heard" oldest 2.5 60
step=$(progress run)
until_true "training goes on without the coordinator" reached run $((step + 50))
join
until_true "heartbeats again" oldest 0 1.5
cut
expect 0 stop 'stops at the next step' weir ctl --run run stop
step=$(progress run)
until_true "nobody has heard of the stop" reached run $((step + 50))
join
ended
[ "$got" -eq 12 ] || fail "a stop asked for during the cut: ended with $got"
expect 0 saved "all as it was written" weir verify run

start ever --set train.checkpoint_every=40 --set cluster.timeout=4
until_true "a checkpoint" test -e ever/checkpoints/latest
cut
ended
pid=
[ "$got" -eq 6 ] || fail "cut for ever: ended with $got"
grep -Eq 'checkpoint of step [0-9]+ .*(not|within)' ever.log || fail "nobody says why"
expect 0 ever-saved "all as it was written" weir verify ever
kill "$relay"
wait "$relay" 2>/dev/null || true
echo ok
