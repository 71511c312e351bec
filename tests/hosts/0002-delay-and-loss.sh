#!/usr/bin/env bash
# A worker's host behind a long and lossy line, frames late, out of order and missing: the job is slower and ends with the
# bits of one host; weir doctor finds what is wrong between hosts.
. "${WEIR_SOURCE:?}/tests/hosts/lib.sh"
make_data
make_config
train one 2 2
digest one >one.digest

expect 0 doctor 'processes on 3 hosts' ./on a weir doctor --run "$PWD" --hosts a,b,c --interface eth0
mkdir shared
mount_hidden() { # what stands at `shared` on host c is another folder
  printf '%s\n' '#!/bin/bash' '[ "$1" = c ] || exec '"$scratch"'/agent "$@"' 'host=$1; shift' \
    "exec $scratch/agent \"\$host\" \"mount -t tmpfs none $scratch/shared; \$*\"" >hidden
  chmod +x hidden
}
mount_hidden
export OMPI_MCA_plm_rsh_agent="$scratch/hidden"
expect 1 hidden '^fail +folder' \
  ./on a weir doctor --run "$PWD/shared" --hosts a,b,c --interface eth0
export OMPI_MCA_plm_rsh_agent="$scratch/agent"

# Host c leaves the bridge; its frames go through the relay.
ip link set "$net-c" nomaster
ip link add "$net-r" type veth peer name "$net-s"
ip link set "$net-r" master "${net}br" up
ip link set "$net-s" up
python3 "$WEIR_SOURCE/tests/hosts/relay.py" "$net-c" "$net-s" 10 10 1 7 >relay.log 2>&1 &
relay=$!
for host in a b c; do # a relay sees frames before the card would have finished them
  ip netns exec "$net$host" ethtool -K eth0 tx off tso off gso off gro off >/dev/null || skip "ethtool cannot set checksums"
done
started=$SECONDS
status=0
on a timeout -k 5 150 weir train --config config.yaml --run far --ps 2 --workers 2 --ps-hosts a,b --worker-hosts b,c \
  --interface eth0 --ports 30000-30999 >far.log 2>&1 || status=$?
kill "$relay" 2>/dev/null || true
wait "$relay" 2>/dev/null || true
ip link del "$net-r" 2>/dev/null || true
[ "$status" -eq 0 ] || fail "no run over a long line: status $status"
digest far >far.digest
diff one.digest far.digest || fail "other bits over a long line"
echo "ok: $((SECONDS - started)) s over the long line"
