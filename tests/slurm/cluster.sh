# Sourced by the tests of slurm/: a Slurm of four nodes on this machine, munge and all, in the scratch
# folder; it goes when the test ends, however that ends. Skips aloud (77) where it cannot be had.
skip() {
  echo "SKIPPED: $*" >&2
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "a slurmd starts jobs as root only"
PATH="$PATH:/usr/sbin:/sbin"
for program in munged slurmctld slurmd sbatch scontrol setpriv; do
  command -v "$program" >/dev/null || skip "there is no $program here"
done
getent passwd munge >/dev/null || skip "there is no user munge here"
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"

daemons=()
stop_slurm() {
  local status=$?
  [ "${#daemons[@]}" -eq 0 ] || {
    [ "$status" -eq 0 ] || tail -n 4 "$scratch"/slurm/*.log >&2 || true
    scancel --full --signal=KILL --user=root >/dev/null 2>&1 || true
    for step in /proc/[0-9]*; do # only those of this cluster
      [ "$(cat "$step/comm" 2>/dev/null)" = slurmstepd ] &&
        { tr '\0' '\n' <"$step/environ"; } 2>/dev/null | grep -qx "SLURM_CONF=$SLURM_CONF" &&
        kill -9 "${step#/proc/}" 2>/dev/null || true
    done
    kill "${daemons[@]}" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "${daemons[@]}" 2>/dev/null || break; sleep 0.1; done
    kill -9 "${daemons[@]}" 2>/dev/null || true
    wait "${daemons[@]}" 2>/dev/null || true
  }
  (exit "$status")
  cleanup
}
trap stop_slurm EXIT

free_port() { # free_port COUNT: the first of COUNT ports in a row on which nobody listens
  "$WEIR_PYTHON" - "$1" <<'PY'
import random, socket, sys
while True:
    first = random.randrange(20000, 30000)
    try:
        for port in range(first, first + int(sys.argv[1])):
            with socket.socket() as s:
                s.bind(("", port))
        print(first)
        break
    except OSError:
        pass
PY
}

start_slurm() {
  local ports host node cpus=8
  ports=$(free_port 5)
  host=$(hostname -s)
  chmod 755 "$scratch"
  mkdir -p slurm/state munge
  dd if=/dev/urandom of=munge/key bs=1024 count=1 status=none
  chmod 700 munge && chmod 400 munge/key && chown -R munge munge
  # The socket is to be reached by all, the key by munge alone.
  mkdir munge-socket && chown munge munge-socket && chmod 755 munge-socket
  setpriv --reuid munge --regid munge --clear-groups munged --foreground \
    --key-file="$scratch/munge/key" --socket="$scratch/munge-socket/s" --pid-file="$scratch/munge/pid" \
    --log-file="$scratch/munge/log" --seed-file="$scratch/munge/seed" >slurm/munged.log 2>&1 &
  daemons+=($!)
  export SLURM_CONF="$scratch/slurm/slurm.conf"
  cat >"$SLURM_CONF" <<CONF
ClusterName=weirtest
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ports
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$scratch/munge-socket/s,cred_expire=5
StateSaveLocation=$scratch/slurm/state
SlurmctldPidFile=$scratch/slurm/slurmctld.pid
SlurmdPidFile=$scratch/slurm/%n.pid
SlurmdSpoolDir=$scratch/slurm/spool-%n
SlurmdLogFile=$scratch/slurm/%n.slurmd.log
TmpFS=$scratch/slurm/tmp-%n
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((ports + 1))-$((ports + 2))] CPUs=$cpus Feature=cpu State=UNKNOWN
NodeName=n[3-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((ports + 3))-$((ports + 4))] CPUs=$cpus Feature=mem State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PartitionName=all Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n[1-4] MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
  for _ in $(seq 100); do [ ! -S munge-socket/s ] || break; sleep 0.1; done
  [ -S munge-socket/s ] || fail "munged does not start: $(cat slurm/munged.log)"
  slurmctld -D >slurm/slurmctld.log 2>&1 &
  daemons+=($!)
  for node in n1 n2 n3 n4; do
    mkdir "slurm/spool-$node" "slurm/tmp-$node" # of its own: ranks of a node meet there
    slurmd -D -N "$node" >"slurm/$node.log" 2>&1 &
    daemons+=($!)
  done
  for _ in $(seq 300); do
    [ "$(sinfo -h -o %D -t idle 2>/dev/null)" != 4 ] || return 0
    sleep 0.1
  done
  fail "no four idle nodes: $(sinfo 2>&1)"
}

# job_field JOB NAME: what scontrol says of it
job_field() {
  scontrol show job "$1" -o 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}

# job_steps JOB RUN STEPS: waits until the job has done so many
job_steps() {
  local step=0
  for _ in $(seq 1200); do
    read -r step _ 2>/dev/null <"$2/progress" || step=0
    [ "$((10#$step))" -lt "$3" ] || return 0
    case "$(job_field "$1" JobState)" in PENDING | RUNNING | CONFIGURING) sleep 0.05 ;; *) break ;; esac
  done
  fail "job $1 is $(job_field "$1" JobState) and has done $step steps, not $3: $(tail -n 20 "weir-$1.log" 2>&1)"
}

# job_ends JOB STATE: waits until the job has ended, and in STATE
job_ends() {
  local state=
  for _ in $(seq 1200); do
    state=$(job_field "$1" JobState)
    case "$state" in PENDING | RUNNING | COMPLETING | CONFIGURING) sleep 0.1 ;; *) break ;; esac
  done
  [ "$state" = "$2" ] || fail "job $1 is $state, not $2: $(tail -n 20 "weir-$1.log" 2>&1)"
}
