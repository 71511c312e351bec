# Sourced by tests of several hosts, in the place of tests/e2e/lib.sh, which it sources: the hosts a, b
# and c are network namespaces on a bridge of their own, with names, /dev/shm and host name of their own.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"

net=w$((BASHPID % 100000))
skip() {
  echo "SKIPPED: $*" >&2
  exit 77
}

remove_hosts() {
  local status=$? host
  set +e
  for host in a b c; do ip netns del "$net$host" 2>/dev/null; done
  ip link del "${net}br" 2>/dev/null
  return "$status"
}
trap 'remove_hosts; cleanup' EXIT

[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "there is no ip (package iproute2)"
ip link add "${net}br" type bridge 2>/dev/null || skip "this kernel or container allows no bridge"
ip link set "${net}br" up
printf '127.0.0.1 localhost\n' >hosts
number=1
for host in a b c; do
  ip netns add "$net$host" 2>/dev/null || skip "this kernel or container allows no network namespaces"
  ip link add "$net-$host" type veth peer name eth0 netns "$net$host"
  ip link set "$net-$host" master "${net}br" up
  ip -n "$net$host" addr add "10.77.9.$number/24" dev eth0
  ip -n "$net$host" link set eth0 up
  ip -n "$net$host" link set lo up
  printf '10.77.9.%d %s\n' "$number" "$host" >>hosts
  number=$((number + 1))
done

# agent HOST COMMAND: on that host. `on HOST COMMAND...` is the same by hand; what mpirun runs in the place of ssh is the same
# without this shell's environment, as with ssh.
cat >agent <<AGENT
#!/bin/bash
exec ip netns exec "$net\$1" unshare --uts --ipc --mount bash -c '
  hostname "\$1"; mount --bind "$scratch/hosts" /etc/hosts
  mount --bind "$scratch" /mnt; mount -t tmpfs none /dev/shm
  [ -d "$scratch" ] || { mkdir -p "$scratch"; mount --bind /mnt "$scratch"; cd "$scratch"; } # TMPDIR was there
  shift; exec bash -c "\$*"' _ "\$@"
AGENT
cat >on <<ON
#!/bin/bash
host=\$1; shift
exec "$scratch/agent" "\$host" "\$(printf '%q ' "\$@")"
ON
cat >login <<LOGIN
#!/bin/bash
exec env -i HOME="\$HOME" PATH="\$PATH" "$scratch/agent" "\$@"
LOGIN
chmod +x agent on login
on() { ./on "$@"; }
on a true 2>/dev/null || skip "this container allows no namespaces for names and mounts"
export OMPI_MCA_plm_rsh_agent="$scratch/login"
