#!/usr/bin/env bash
# The line that places a job on hosts, without running it; what is no placement is refused.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
show() { weir train --config config.yaml --run run --launcher mpirun --dry-run "$@"; }

show --ps 3 --workers 3 --ps-hosts a,b --worker-hosts b,c --interface eth0 --ports 30000-30099 >line
grep -oE -- '-host [a-z]+ -n [0-9]+ [^ ]*' line | sed 's,/.*/,,' >parts
cat >expected <<'PARTS'
-host a -n 1 weir-coordinator
-host a -n 2 weir-ps
-host b -n 1 weir-ps
-host b -n 2 weir-worker
-host c -n 1 weir-worker
PARTS
diff expected parts || fail "another placement"
for part in 'btl_tcp_if_include eth0' 'oob_tcp_if_include eth0' 'btl_tcp_port_min_v4 30004' \
  'btl_tcp_port_range_v4 96' 'oob_tcp_dynamic_ipv4_ports 30000-30003'; do
  grep -q -- "--mca $part " line || fail "no $part"
done

# How ranks compute is passed on to other hosts where it is set.
if env -u WEIR_KERNELS -u WEIR_BF16 "$BASH" -c "$(declare -f show); show" | grep -qE '[ ,]WEIR_(KERNELS|BF16)'; then
  fail "what is not set is passed on"
fi
WEIR_KERNELS=v2 WEIR_BF16=rounded show >passing
grep -q ' [A-Z_,]*,WEIR_KERNELS,WEIR_BF16[ ,]' passing || fail "hosts are not told how to compute"

# The same from the configuration; an option wins.
grep -oE -- '--mca [^ ]+ [^ ]+' line | sort >wanted
cp config.yaml plain.yaml
sed -i 's/^cluster: {/&ps: 3, workers: 3, ps_hosts: "a,b", worker_hosts: "b,c", interface: eth0, ports: 30000-30099, /' config.yaml
show >line
grep -oE -- '-host [a-z]+ -n [0-9]+ [^ ]*' line | sed 's,/.*/,,' | diff expected - || fail "another placement by settings"
grep -oE -- '--mca [^ ]+ [^ ]+' line | sort | diff wanted - || fail "other interfaces or ports by settings"
show --worker-hosts d --interface eth1 --ports 40000-40099 >line
grep -q -- '-host d -n 3 ' line && ! grep -qE -- '-host c' line || fail "an option does not win over its setting"
grep -q 'btl_tcp_if_include eth1' line && grep -q 'dynamic_ipv4_ports 40000-40003' line || fail "an option does not win"
expect 13 srun-set 'srun cannot' weir train --config config.yaml --run run --dry-run --launcher srun
mv plain.yaml config.yaml
expect 2 alone-set 'go together' weir train --config config.yaml --run run --dry-run --launcher mpirun --set cluster.worker_hosts=a

show >line
! grep -qE -- '-host|--mca (btl|oob)' line || fail "a placement that nobody asked for"

expect 2 alone 'go together' weir train --config config.yaml --run run --dry-run --launcher mpirun --ps-hosts a
expect 2 twice 'stands twice' weir train --config config.yaml --run run --dry-run --launcher mpirun --ps-hosts a,a --worker-hosts b
expect 2 ports 'no range of ports' weir train --config config.yaml --run run --dry-run --launcher mpirun --ports 80-90
expect 2 interface 'no list of interfaces' weir train --config config.yaml --run run --dry-run --launcher mpirun --interface 'eth 0'
expect 13 srun 'srun cannot' weir train --config config.yaml --run run --dry-run --launcher srun --ps-hosts a --worker-hosts b
[ ! -e run ] || fail "a dry run made a folder"

# One processor is left to the thread that moves frames; where there is one alone, none is.
threads() { sed -n 's/.*computing" .*threads=//p' "$1.log"; }
all=$(nproc)
train whole 1 1 --set train.threads=0 --set train.max_steps=2
train spared 1 1 --progress-core --set train.max_steps=2
[ "$(threads whole)" -eq "$all" ] || fail "not all processors compute: $(threads whole) of $all"
[ "$(threads spared)" -eq $((all > 1 ? all - 1 : 1)) ] || fail "no processor is spared: $(threads spared) of $all"
expect 2 few 'train.threads' weir train --config config.yaml --run run --set train.threads=-2
echo "ok"
