#!/usr/bin/env bash
# Jobs of a higher tier take the nodes of others: those are warned, save, go back into the queue, go on when
# the nodes are free again, and end with the state of a run that nobody interrupted, bit for bit.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine
long=(--set train.epochs=300 --set eval.every_epochs=0)

# submit SCRIPT RUN [sbatch options...]: prints the number of the job
submit() {
  local script=$1 run=$2
  shift 2
  sbatch --parsable "$@" --output=weir-%j.log "$WEIR_SOURCE/slurm/$script" config.yaml "$run" "${long[@]}"
}
take_nodes() { # of all jobs, for a moment
  local urgent
  urgent=$(sbatch --parsable --partition=urgent --nodes=4 --exclusive --output=urgent.log --wrap 'sleep 1')
  job_ends "$urgent" COMPLETED
}
# was_requeued JOB RUN: it ends, was begun twice, and its state is that of the run nobody interrupted
was_requeued() {
  job_ends "$1" COMPLETED
  [ "$(job_field "$1" Restarts)" = 1 ] || fail "$2: $(job_field "$1" Restarts) requeues, not one"
  grep -q 'back into the queue' "weir-$1.log" || fail "$2: nothing says that it goes back into the queue"
  [ "$(grep -c '"kind":"start"' "$2/metrics.jsonl")" = 2 ] || fail "$2: it was not begun twice"
  [ "$(digest "$2/checkpoints/latest")" = "$(digest plain/checkpoints/latest)" ] ||
    fail "the state of $2 is not that of a run that nobody interrupted"
}

# Both scripts: one node under mpirun; three under srun, with a server each.
one=$(submit single-node.sbatch one --ntasks=4)
many=$(submit many-nodes.sbatch many --nodes=3 --ntasks-per-node=2)
job_steps "$one" one 40
job_steps "$many" many 40
take_nodes
train plain 1 2 "${long[@]}"
was_requeued "$one" one
was_requeued "$many" many

# A site that sends SIGTERM to the ranks instead; and a job that is cancelled, which does not come back.
sed -i '/^SlurmctldParameters/d' "$SLURM_CONF"
scontrol reconfigure
told=$(submit many-nodes.sbatch told --nodes=3 --ntasks-per-node=2)
cancelled=$(submit many-nodes.sbatch cancelled --nodes=3 --ntasks-per-node=2)
job_steps "$told" told 40
job_steps "$cancelled" cancelled 40
scancel "$cancelled"
job_ends "$cancelled" CANCELLED
take_nodes
was_requeued "$told" told
[ "$(job_field "$cancelled" Restarts)" = 0 ] || fail "a cancelled job came back"
expect 2 outside 'requeue is for a job of Slurm' env -u SLURM_JOB_ID weir train --config config.yaml --run no --requeue
echo "ok"
