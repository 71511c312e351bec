#!/usr/bin/env bash
# Data on the nodes' own disks: copied there, read from there, gone afterwards, and the same bits.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine
mkdir local && mv data shared
sed -i 's/path: data/path: nowhere/' config.yaml
job=$(SCRATCH="$scratch/local" sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log \
  "$WEIR_SOURCE/slurm/node-local.sbatch" config.yaml far shared)
job_ends "$job" COMPLETED
grep -q "path: .*local/weir-$job/data" far/config.yaml || fail "it read other data: $(grep path far/config.yaml)"
[ -z "$(ls local)" ] || fail "left on the disk: $(ls local)"
train plain 3 2 --set data.path=shared
[ "$(digest far/checkpoints/latest)" = "$(digest plain/checkpoints/latest)" ] || fail "another state"

# Another job goes on with it from another folder.
job=$(SCRATCH="$scratch/local" sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log \
  "$WEIR_SOURCE/slurm/node-local.sbatch" config.yaml far shared --set train.epochs=8)
job_ends "$job" COMPLETED
grep -q "path: .*local/weir-$job/data" far/config.yaml || fail "it read other data: $(grep path far/config.yaml)"

job=$(SCRATCH="$scratch/config.yaml" sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log \
  "$WEIR_SOURCE/slurm/node-local.sbatch" config.yaml none missing)
job_ends "$job" FAILED
grep -q 'could not be copied' "weir-$job.log" || fail "not told: $(cat "weir-$job.log")"
echo "ok"
