#!/usr/bin/env bash
# The disk of a cold folder fills up while a job trains: it ends with a sentence that names the folder, and the last
# checkpoint is whole.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
if ! { [ "$(id -u)" -eq 0 ] && mkdir -p small && mount -t tmpfs -o size=24m tmpfs small 2>/dev/null; }; then
  echo "skipped: needs root and tmpfs"
  exit 77
fi
make_data 300 130000
make_config
# Wide rows, of which the least budget holds half: some thousands go to disk in every step, and what is
# gathered in memory before a file is written soon does not fit on the disk.
base="--set model.embedding_dim=192 --set loss.sharing=batch --set loss.negatives=16384 --set train.epochs=40
  --set eval.every_epochs=0 --set train.checkpoint_every=6 --set train.keep_checkpoints=2"
budget="--set sparse.memory_mib=192 --set sparse.cold_folder=$scratch/small/cold"

expect 11 full "cannot write cold rows in '$scratch/small/cold.*No space left" \
  weir train --config config.yaml --run run --ps 1 --workers 2 $base $budget
grep -q 'make room there' full.log || fail "nobody says what to do"
step=$(readlink run/checkpoints/latest)
[ -n "$step" ] || fail "the job ended before it could save: $(tail -n 5 full.log)"
expect 0 verify 'ok' weir inspect run --verify

# It goes on from there where there is room.
expect 0 again 'resumed at step' weir train --config config.yaml --run run --ps 1 --workers 2 $base $budget \
  --set sparse.cold_folder="$scratch/disk" --set train.max_steps=$((10#${step#step-} + 2)) --resume
echo "ok: full after $step"
