#!/usr/bin/env bash
# Where a run ends and how it goes on: limits, early stop, divergence, a save that fails, tiny data.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config

# lines RUN EXPRESSION: a Python expression over the lines of metrics.jsonl, as `lines`
lines() {
  python3 - "$1" "$2" <<'PY' || fail "$1: not so: $2"
import json, sys
lines = [json.loads(line) for line in open(f"{sys.argv[1]}/metrics.jsonl")]
steps = [r["step"] for r in lines if r["kind"] == "train"]
assert eval(sys.argv[2]), lines
PY
}

# train.epochs of 0 leaves the end to train.max_steps; a run that had ended stays so; more epochs go on.
train steps 1 1 --set train.epochs=0 --set train.max_steps=5
lines steps 'steps[-1] == 5 and lines[-1]["reason"] == "finished"'
train steps 1 1 --resume --set train.epochs=0 --set train.max_steps=5
lines steps 'steps[-1] == 5 and lines[-1]["reason"] == "finished" and len(steps) == len(set(steps))'
train steps 1 1 --resume --set train.epochs=3 # 4 steps an epoch
train straight 1 1 --set train.epochs=3
digest steps >a.digest
digest straight >b.digest
diff a.digest b.digest || fail "more epochs on a resume: another result"

# An early stop is an end, also after a resume; another metric is another contest.
patient="--set eval.validation=true --set eval.patience=1 --set eval.every_steps=1 --set train.epochs=60 --set sparse.learning_rate=0.2"
train early 1 2 $patient
lines early 'lines[-1]["reason"] == "early_stop"'
digest early >a.digest
train early 2 2 $patient --resume
lines early 'lines[-1]["reason"] == "early_stop" and lines[-2]["kind"] == "start"'
digest early >b.digest
diff a.digest b.digest || fail "a run that had stopped early trained on"
train early 1 2 $patient --resume --set eval.metric=mrr
lines early '[r for r in lines if r["kind"] == "start"][-1]["step"] < lines[-1]["step"]'
lines early '[r for r in lines if r["kind"] == "eval" and r["step"] > [s for s in lines if s["kind"] == "start"][-1]["step"]][0]["best"]'
grep -q 'sought anew, by validation mrr and not by validation ndcg@10' early.log || fail "early: no word of another metric"

# Early stopping counts on over a stop in between.
train whole 1 2 $patient --set eval.patience=3
stop=$(python3 -c 'import json; print([json.loads(l) for l in open("whole/metrics.jsonl")][-1]["step"] - 2)')
train parts 1 2 $patient --set eval.patience=3 --set train.max_steps="$stop"
train parts 1 2 $patient --set eval.patience=3 --resume
digest whole >a.digest
digest parts >b.digest
diff a.digest b.digest || fail "early stopping does not count on after a resume"

# Numbers that run away end the run before they are saved: what was saved stays good.
expect 2 diverged 'not a finite number|NaN or infinity' weir train --config config.yaml --run diverged --ps 1 --workers 2 \
  --set train.max_steps=40 --set train.checkpoint_every=1 --set dense.learning_rate=1000 --set dense.weight_decay=1000 \
  --set sparse.learning_rate=1000 --set sparse.weight_decay=1000
train diverged 1 2 --resume --set train.max_steps=1 # loads

# A save that cannot begin is known at once and by name; the steps are done again, their lines written once.
train unsaved 1 1 --set train.max_steps=3
rm -r unsaved/checkpoints
touch unsaved/checkpoints
expect 7 unsaved-2 "checkpoints' is there and is not a folder" \
  weir train --config config.yaml --run unsaved --ps 1 --workers 1 --resume --set train.max_steps=3
rm unsaved/checkpoints
train unsaved 1 1 --resume --set train.max_steps=3
lines unsaved 'len(steps) == len(set(steps)) and steps[-1] == 3'

# A checkpoint without an evaluation at its step has no metrics; pruning spares the best.
train kept 1 1 --set train.max_steps=12 --set eval.every_steps=4 --set eval.every_epochs=0 --set train.checkpoint_every=1 \
  --set train.keep_checkpoints=2 --set sparse.learning_rate=0 --set dense.learning_rate=0
[ "$(readlink kept/checkpoints/best)" = step-000000000004 ] || fail "without learning the first is the best"
[ -f kept/checkpoints/best/manifest.json ] || fail "the best checkpoint was removed"
[ "$(ls -d kept/checkpoints/step-* | wc -l)" -eq 3 ] || fail "kept: $(ls kept/checkpoints)"
python3 - <<'PY' || fail "metrics of another step"
import json
with_metrics = [json.load(open(f"kept/checkpoints/step-{s:012d}/manifest.json")).get("metrics") for s in (4, 11, 12)]
assert with_metrics[0] and not with_metrics[1] and with_metrics[2], with_metrics
PY

# More workers than users of a batch; a catalogue of one item, a user with one event.
train wide 1 3 --set train.batch_users=2 --set train.max_steps=6 --set train.log_every=1
train narrow 2 1 --set train.batch_users=2 --set train.max_steps=6 --set train.log_every=1
python3 - <<'PY' || fail "the loss depends on workers without users"
import json
wide, narrow = ([r["loss"] for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "train"] for run in ("wide", "narrow"))
assert len(wide) == len(narrow) == 6, (wide, narrow)
assert all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(wide, narrow)), (wide, narrow)
PY
printf 'user,item,time\na,x,1\na,x,2\na,x,3\nb,x,1\nc,x,4\nc,x,5\nc,x,6\nc,x,7\n' >one.csv
weir prepare csv --file one.csv --user 0 --item 1 --time 2 --out one >prepare.log 2>&1 || fail "prepare: $(cat prepare.log)"
train one-item 2 2 --set data.path=one --set train.epochs=2
lines one-item '[r for r in lines if r["kind"] == "eval"][-1]["users"] == 2 and lines[-1]["reason"] == "finished"'
echo "ok"
