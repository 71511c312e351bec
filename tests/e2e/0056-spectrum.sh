#!/usr/bin/env bash
# The spectrum of a table: numpy's on any number of processes, also through deltas; what it exports and refuses.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config

train run 2 1 --set train.epochs=2
train deltas 2 1 --set train.epochs=2 --set train.checkpoint_every=3 --set train.checkpoint_full_every=100
manifest=deltas/checkpoints/latest/manifest.json
grep -q '"base": [0-9]' "$manifest" || fail "the last checkpoint is no delta: $(head -c 300 "$manifest")"

compared=0
# spectrum NAME PROCESSES WHERE OPTION...
spectrum() {
  local name=$1 processes=$2 where=$3
  shift 3
  timeout 120 weir inspect spectrum "$where" -n "$processes" --json "$@" >"$name.json" 2>"$name.err" ||
    fail "$name: $(cat "$name.err")"
  ! grep -q 'illegal value' "$name.err" || fail "$name: $(cat "$name.err")"
}
compare() {
  local got=0
  "$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/spectrum.py" run/checkpoints/latest item "$@" >compare.log 2>&1 || got=$?
  [ "$got" -ne 77 ] || return 0
  [ "$got" -eq 0 ] || fail "$1: $(tail -n 3 compare.log)"
  compared=$((compared + 1))
}

spectrum plain 2 run
compare plain.json
spectrum whole 1 run --pca 16 --output whole.st
compare whole.json whole.st
spectrum centered 4 run --centered --block 5 --pca 3 --output centered.st --plot centered.svg
compare centered.json centered.st
python3 -c 'import sys, xml.dom.minidom as x; assert "polyline" in x.parse("centered.svg").documentElement.toxml()' ||
  fail "the plot is no SVG"

# Deltas say the same as the run that wrote full checkpoints: the same rows.
spectrum deltas 2 deltas
python3 - <<'PY' || fail "a delta has another spectrum"
import json
full, delta = (json.load(open(name)) for name in ("plain.json", "deltas.json"))
assert delta["checkpoint"] != full["checkpoint"]
assert all(delta[key] == full[key] for key in full if key != "checkpoint")
PY

# Fewer rows than dimensions: the others are said to be rounding.
weir synth --out few --users 60 --items 12 --seed 7 >/dev/null
train small 1 1 --set train.epochs=1 --set data.path=few
spectrum small 2 small --centered
python3 - <<'PY' || fail "dimensions without a row are not seen"
import json
said = json.load(open("small.json"))
assert said["rows"] <= 12 and said["condition"] is None
assert said["below_floor"] == said["dim"] - said["rows"] + 1, said  # less the mean: one more
PY
expect 0 text 'condition +above' weir inspect spectrum small -n 2 --centered

expect 8 table 'has no table nothing' weir inspect spectrum run -n 2 --table nothing
expect 8 where 'nowhere' weir inspect spectrum nowhere -n 2
expect 2 pca 'go together' weir inspect spectrum run --pca 3
expect 2 directions '17 principal directions of 16' weir inspect spectrum run -n 2 --pca 17 -o no.st
expect 5 memory 'takes .* GiB of this host' weir inspect spectrum run -n 2 --memory 0.00001
ls no.st* >/dev/null 2>&1 && fail "a refused job left a file"

[ "$compared" -gt 0 ] || { echo "skipped: no numpy to compare with"; exit 77; }
echo "ok: $compared comparisons"
