#!/usr/bin/env bash
# One bit changes in a file of a run beside its checkpoints: a resume either ends with the bits of the run whose files are
# whole, or names the file, or, of config.yaml, the setting that is another one.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
sed -i 's/epochs: 6/epochs: 4/; s/every_epochs: 3/every_epochs: 2/' config.yaml
export OMP_NUM_THREADS=1
train run 1 1 --max-restarts 1
echo '{"time": "2026-01-01T00:00:00Z", "restart": 1, "of": 1, "status": 137, "cause": "rank 2", "from_step": 7, "reached_step": 9}' \
  >run/restarts.jsonl
[ -e run/control.json ] || echo '{"endpoint": "tcp://127.0.0.1:9", "job": "0000000000000001", "pid": 1}' >run/control.json
touch run/lock run/beat

resume() { # resume RUN: status in $got
  got=0
  timeout -k 5 120 weir train --resume --config "$1/config.yaml" --run "$1" --ps 1 --workers 1 --max-restarts 1 --set train.epochs=5 >"$1.log" 2>&1 </dev/null ||
    got=$?
}
cp -r run whole
resume whole
[ "$got" -eq 0 ] || fail "the run whose files are whole: $(tail -n 5 whole.log)"
grep -q 'train.epochs is not what the checkpoint was written with' whole.log || fail "a change of a setting is not told"
wanted=$(digest whole/checkpoints/latest)

flip() { # flip FILE BYTE BIT: of its end, if negative
  python3 - "$@" <<'PY'
import sys
path, at, bit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
content = bytearray(open(path, "rb").read())
if content:
    content[at % len(content)] ^= 1 << bit
    open(path, "r+b").write(content)
PY
}
changed=0
try() { # try FILE BYTE BIT
  cp -r run trial
  flip "trial/$1" "$2" "$3"
  resume trial
  if [ "$got" -ne 0 ]; then
    grep -q -- "$1" trial.log || fail "$1, bit $3 of byte $2: ended with $got and does not name it: $(tail -n 5 trial.log)"
  elif [ "$(digest trial/checkpoints/latest)" != "$wanted" ]; then
    [ "$1" = config.yaml ] || fail "$1, bit $3 of byte $2: another end, and nobody said why"
    grep -v train.epochs trial.log | grep -q 'is not what the checkpoint was written with' ||
      fail "bit $3 of byte $2 of config.yaml: another end, and no setting is named"
    changed=$((changed + 1))
  fi
  rm -rf trial trial.log
}
for file in progress beat lock control.json restarts.jsonl metrics.jsonl outcome.json; do
  try "$file" 0 6
  try "$file" -2 0
done
try progress 19 4   # the last digit of the step
seed=$(($(grep -bo '  seed: 3' run/config.yaml | head -n 1 | cut -d: -f1) + 8))
try config.yaml "$seed" 0
[ "$changed" -eq 1 ] || fail "another seed changed nothing: this test sees nothing"
size=$(wc -c <run/config.yaml)
for part in 1 2 3 4 5 6; do try config.yaml $((size * part / 7)) $((part % 7)); done
echo ok
