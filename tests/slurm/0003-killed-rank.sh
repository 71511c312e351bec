#!/usr/bin/env bash
# A rank that is killed under srun --multi-prog takes the job with it soon; with
# --max-restarts the next one starts within the allocation.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine
long=(--set train.epochs=100000 --set eval.every_epochs=0)
short=(--set train.epochs=150 --set eval.every_epochs=0 --set train.checkpoint_every=20)

kill_one() { # kill_one NAME RUN: of the run's ranks
  local process
  for process in $(pgrep -x "${1:0:15}"); do
    if { tr '\0' ' ' <"/proc/$process/cmdline"; } 2>/dev/null | grep -q -- "--run $2 "; then
      kill -9 "$process"
      return
    fi
  done
  return 1
}
kill_soon() { # the ranks begin one after the other
  for _ in $(seq 50); do ! kill_one "$@" || return 0; sleep 0.1; done
  fail "there is no $1 of $2"
}
# Within KillWait, here 5 s: the others take srun's SIGTERM for a request to save, and cannot any more.
many() { # many RUN [args...]
  sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log "$WEIR_SOURCE/slurm/many-nodes.sbatch" config.yaml "$@"
}
for name in weir-ps; do
  job=$(many "$name" "${long[@]}")
  job_steps "$job" "$name" 10
  begun=$SECONDS
  kill_soon "$name" "$name"
  job_ends "$job" FAILED
  [ $((SECONDS - begun)) -le 30 ] || fail "the job went on for $((SECONDS - begun)) s without its $name: $(tail -n 20 "weir-$job.log")"
done

job=$(many again "${short[@]}" --max-restarts 2)
job_steps "$job" again 40
kill_soon weir-worker again
job_ends "$job" COMPLETED
[ "$(wc -l <again/restarts.jsonl)" = 1 ] || fail "not one restart: $(cat again/restarts.jsonl)"
train plain 3 2 "${short[@]}"
[ "$(digest again/checkpoints/latest)" = "$(digest plain/checkpoints/latest)" ] || fail "another state after the restart"
echo "ok"
