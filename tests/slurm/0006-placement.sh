#!/usr/bin/env bash
# Servers on the nodes of one kind and workers on the others: every rank is where the script says.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine
job=$(sbatch --parsable --nodes=3 --ntasks-per-node=2 --constraint='[mem*2&cpu*1]' --output=weir-%j.log \
  "$WEIR_SOURCE/slurm/placed.sbatch" config.yaml placed mem --set train.epochs=100000 --set eval.every_epochs=0)
job_steps "$job" placed 10
# By what the ranks' own processes were told by Slurm.
for name in weir-coordinator weir-ps weir-worker; do
  for process in $(pgrep -x "${name:0:15}"); do
    { tr '\0' '\n' <"/proc/$process/environ"; } 2>/dev/null | sed -n "s/^SLURMD_NODENAME=/$name /p"
  done
done | sort >where
[ "$(uniq where)" = "$(printf 'weir-coordinator n3\nweir-ps n3\nweir-ps n4\nweir-worker n%s\n' "$(sed -n 's/weir-worker n//p' where | head -n 1)")" ] ||
  fail "not where they should be: $(cat where)"
grep -Eq 'weir-worker n[12]' where || fail "the workers are not on other nodes: $(cat where)"
scancel "$job"
job_ends "$job" CANCELLED
echo "ok"
