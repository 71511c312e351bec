#!/usr/bin/env bash
# TensorBoard's event files say what metrics.jsonl says, also when steps are done again after a resume.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 100 60
make_config
train run 1 2 --set train.checkpoint_every=5
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/read_events.py" run || fail "one start"
[ "$(find run/tensorboard -type f | wc -l)" -eq 1 ] || fail "files of one start: $(ls run/tensorboard)"
# The last checkpoint is lost: the steps after the one before are done again.
rm -r "run/checkpoints/$(readlink run/checkpoints/latest)" run/checkpoints/latest run/outcome.json
train run 1 2 --resume --set train.epochs=7 --set train.checkpoint_every=5
[ "$(find run/tensorboard -type f | wc -l)" -eq 2 ] || fail "files of two starts: $(ls run/tensorboard)"
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/read_events.py" run || fail "two starts"
train none 1 1 --set train.epochs=1 --set train.tensorboard=false
[ ! -e none/tensorboard ] || fail "event files that nobody wanted"
echo "ok"
