# Sourced by every e2e test: finds the build, makes a scratch folder and small data, checks.
# Environment: WEIR_BIN (folder of the programs), WEIR_SOURCE (folder of the repository).
set -euo pipefail

: "${WEIR_BIN:?folder of the weir programs}" "${WEIR_SOURCE:?folder of the repository}"
WEIR_PYTHON=python3
[ ! -x "$WEIR_SOURCE/.venv/bin/python" ] || WEIR_PYTHON="$WEIR_SOURCE/.venv/bin/python"
export PATH="$WEIR_BIN:$PATH" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

scratch=$(mktemp -d)
cleanup() {
  local status=$?
  [ "$status" -eq 0 ] || { echo "--- scratch folder: $scratch"; tail -n 40 "$scratch"/*.log 2>/dev/null || true; }
  [ -z "${pid:-}" ] || kill -9 "$pid" 2>/dev/null || true # its job goes with it
  rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect STATUS NAME PATTERN COMMAND...: the command ends with STATUS within a minute, and its output
# holds PATTERN (grep -E). The output is left in NAME.log.
expect() {
  local status=$1 name=$2 pattern=$3 got=0
  shift 3
  timeout -k 5 60 "$@" >"$name.log" 2>&1 </dev/null || got=$?
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
cluster: {timeout: 30}
YAML
}

# train RUN PS WORKERS [args...]: expects success
train() {
  local run=$1 ps=$2 workers=$3
  shift 3
  timeout -k 5 120 weir train --config config.yaml --run "$run" --ps "$ps" --workers "$workers" "$@" \
    >"${run//\//-}.log" 2>&1 </dev/null || fail "train $run: status $?: $(tail -n 20 "${run//\//-}.log")"
}

digest() {
  "$WEIR_BIN/../tests/checkpoint_digest" "$1"
}
