# Sourced by every e2e test: finds the build, makes a scratch folder and small data, checks.
# Environment: WEIR_BIN (folder of the programs), WEIR_SOURCE (folder of the repository).
set -euo pipefail

: "${WEIR_BIN:?folder of the weir programs}" "${WEIR_SOURCE:?folder of the repository}"
WEIR_PYTHON=python3
[ ! -x "$WEIR_SOURCE/.venv/bin/python" ] || WEIR_PYTHON="$WEIR_SOURCE/.venv/bin/python"
export PATH="$WEIR_BIN:$PATH" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

scratch=$(mktemp -d)

# Processes of the test that work in the scratch folder: lines "PID NAME".
left_behind() {
  local process name
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd" 2>/dev/null)" in
      "$scratch" | "$scratch"/*)
        name=$(cat "$process/comm" 2>/dev/null) || continue
        case "$name" in
          weir* | mpirun | orterun | orted | python3) echo "${process#/proc/} $name" ;;
        esac
        ;;
    esac
  done
}

# A test that passes leaves no process behind; one that fails takes its own with it.
cleanup() {
  local status=$? processes=""
  if [ "$status" -eq 0 ]; then
    for _ in $(seq 300); do
      processes=$(left_behind)
      [ -n "$processes" ] || break
      sleep 0.1
    done
    [ -z "$processes" ] || { echo "FAILED: left behind: $processes" >&2; status=1; }
  fi
  [ "$status" -eq 0 ] || { echo "--- scratch folder: $scratch"; tail -n 40 "$scratch"/*.log 2>/dev/null || true; }
  [ -z "${pid:-}" ] || kill -9 "$pid" 2>/dev/null || true # its job goes with it
  left_behind | while read -r process _; do kill -9 "$process" 2>/dev/null || true; done
  cd /
  ! mountpoint -q "$scratch/small" 2>/dev/null || umount "$scratch/small" || true
  rm -rf "$scratch"
  exit "$status"
}
trap cleanup EXIT
cd "$scratch"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# Limits are for what hangs: far above what anything takes, also on a busy machine or under
# sanitizers.

# expect STATUS NAME PATTERN COMMAND...: the command ends with STATUS, and its output holds PATTERN
# (grep -E). The output is left in NAME.log.
expect() {
  local status=$1 name=$2 pattern=$3 got=0
  shift 3
  timeout -k 5 180 "$@" >"$name.log" 2>&1 </dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "$name: exit status $got, expected $status: $*"
  grep -Eq -- "$pattern" "$name.log" || fail "$name: no line matches '$pattern'"
}

# Small data with something to learn; a configuration that trains it in seconds.
make_data() {
  weir synth --out data --users "${1:-200}" --items "${2:-150}" --seed 7 >synth.log 2>&1 || fail "synth: $(cat synth.log)"
}
make_config() {
  cat >config.yaml <<'YAML'
data: {path: data}
model: {embedding_dim: 16, blocks: 2, heads: 1, dqk: 16, dv: 16, max_sequence_length: 24, output_length: 4}
loss: {negatives: 16}
train: {batch_users: 32, epochs: 6, log_every: 2, seed: 3}
eval: {every_epochs: 3, batch_users: 32}
cluster: {timeout: 60}
YAML
}

# train RUN PS WORKERS [args...]: expects success
train() {
  local run=$1 ps=$2 workers=$3
  shift 3
  timeout -k 5 300 weir train --config config.yaml --run "$run" --ps "$ps" --workers "$workers" "$@" \
    >"${run//\//-}.log" 2>&1 </dev/null || fail "train $run: status $?: $(tail -n 20 "${run//\//-}.log")"
}

digest() {
  "$WEIR_BIN/../tests/checkpoint_digest" "$1"
}
