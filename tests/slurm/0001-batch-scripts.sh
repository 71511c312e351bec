#!/usr/bin/env bash
# The batch scripts under a real Slurm: on one node, and on three with srun in place of mpirun, whose final
# state is that of the same run under mpirun, bit for bit.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine

job=$(sbatch --parsable --ntasks=4 --output=weir-%j.log "$WEIR_SOURCE/slurm/single-node.sbatch" config.yaml one)
job_ends "$job" COMPLETED
expect 0 verify-one '' weir verify one

# Three nodes, two tasks each: a coordinator, three servers, two workers.
job=$(sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log \
  "$WEIR_SOURCE/slurm/many-nodes.sbatch" config.yaml many)
job_ends "$job" COMPLETED
expect 0 verify-many '' weir verify many

# The same run with mpirun has the same numbers of servers and workers, and so the same bits.
train plain 3 2
[ "$(digest many/checkpoints/latest)" = "$(digest plain/checkpoints/latest)" ] ||
  fail "the state after srun is not that after mpirun"
