#!/usr/bin/env bash
# Servers and workers on three hosts: the bits of the run on one; a slow network changes nothing in
# them; when a host's link is cut the job ends by itself, and resumes to the same bits.
. "${WEIR_SOURCE:?}/tests/hosts/lib.sh"
make_data
make_config

# place RUN [OPTION...]: a job started on host a.
place() {
  local run=$1
  shift
  on a timeout -k 5 120 weir train --config config.yaml --run "$run" --ps 2 --workers 2 \
    --ps-hosts a,b --worker-hosts b,c --interface eth0 --ports 30000-30999 \
    --set cluster.timeout=6 "$@" >"$run.log" 2>&1
}

train one 2 2
digest one >one.digest

place plain || fail "no run on three hosts"
digest plain >plain.digest
diff one.digest plain.digest || fail "other bits on three hosts"
WEIR_KERNELS=naive place told --set train.max_steps=2 || fail "no run with other kernels"
grep -q 'msg="computing" kernels=naive' told.log || fail "a worker on another host was not told which kernels to use"

# 40 Mbit/s between the hosts, then host c is gone in the middle of the job.
for host in a b c; do
  tc -n "$net$host" qdisc add dev eth0 root tbf rate 40mbit burst 32k latency 200ms ||
    echo "this kernel has no tbf: the network is as fast as it is"
done
place cut --set train.checkpoint_every=5 --set train.epochs=60 &
job=$!
for _ in $(seq 600); do
  [ ! -e cut/checkpoints/latest ] || break
  sleep 0.1
done
[ -e cut/checkpoints/latest ] || fail "no checkpoint before the cut"
for process in $(ip netns pids "${net}a") $(ip netns pids "${net}b") $(ip netns pids "${net}c"); do
  name=$(cat "/proc/$process/comm" 2>/dev/null) || continue
  [[ $name != weir-* ]] || echo "$name on $(ip netns identify "$process" | sed "s/^$net//")"
done | sort >placed
cat >expected <<'PLACED'
weir-coordinato on a
weir-ps on a
weir-ps on b
weir-worker on b
weir-worker on c
PLACED
diff expected placed || fail "the ranks are on other hosts"
ip link set "$net-c" down
status=0
wait "$job" || status=$?
[ "$status" -ne 0 ] || fail "a job without one of its hosts says that it succeeded"
[ "$status" -ne 124 ] && [ "$status" -ne 137 ] ||
  fail "a job without one of its hosts hung"
ip link set "$net-c" up

# What was saved is whole, and goes on to the bits of a run that nobody cut.
weir verify cut >verify.log 2>&1 || fail "the cut damaged a checkpoint"
for host in a b c; do tc -n "$net$host" qdisc del dev eth0 root 2>/dev/null || true; done
step=$(basename "$(readlink cut/checkpoints/latest)")
steps=$((10#${step##*[!0-9]} + 10))
place cut --resume --set train.max_steps="$steps" || fail "the run does not go on after the cut"
train whole 2 2 --set train.epochs=60 --set train.max_steps="$steps"
digest whole >whole.digest
digest cut >cut.digest
diff whole.digest cut.digest || fail "other bits after the cut"
echo "ok"
