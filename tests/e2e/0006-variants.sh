#!/usr/bin/env bash
# Every optimiser of the rows and all kinds of negatives learn, and none depends on the number of
# servers by a bit.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config
short="--set train.epochs=3 --set train.log_every=1 --set eval.every_epochs=0"

# The mean loss of the last four steps is below that of the first four.
loss_falls() {
  python3 - "$1" <<'PY' || fail "$1: the loss does not fall"
import json, sys
losses = [r["loss"] for r in map(json.loads, open(f"{sys.argv[1]}/metrics.jsonl")) if r["kind"] == "train"]
assert len(losses) >= 8, losses
assert sum(losses[-4:]) < sum(losses[:4]), losses
PY
}

variant() { # variant NAME [settings...]: trains with one server and with two
  local name=$1
  shift
  train "$name-1" 1 2 $short "$@"
  train "$name-2" 2 2 $short "$@"
  loss_falls "$name-1"
  digest "$name-1" >"$name-1.digest"
  digest "$name-2" >"$name-2.digest"
  [ -s "$name-1.digest" ] || fail "$name: nothing to compare"
  diff "$name-1.digest" "$name-2.digest" || fail "$name: two servers, another result"
}

variant adamw --set sparse.optimizer=adamw
variant rowwise_adamw --set sparse.optimizer=rowwise_adamw
variant adagrad --set sparse.optimizer=adagrad --set sparse.learning_rate=0.02
variant rowwise_adagrad --set sparse.optimizer=rowwise_adagrad --set sparse.learning_rate=0.02
variant sgd --set sparse.optimizer=sgd --set sparse.learning_rate=0.1
variant momentum --set sparse.optimizer=momentum --set sparse.learning_rate=0.02 \
  --set sparse.schedule=cosine --set sparse.warmup_steps=2 --set sparse.decay_steps=100 --set sparse.clip_norm=1
variant ftrl --set sparse.optimizer=ftrl --set sparse.learning_rate=0.1 --set sparse.l1=0.00001
variant group_adam --set sparse.optimizer=group_adam --set sparse.group_l1=0.00001
variant shared --set loss.sharing=batch --set loss.negatives=64
variant catalogue --set loss.sharing=catalogue

for precision in bf16 fp16 int8 split_bf16; do
  variant "$precision" --set sparse.precision=$precision
  $WEIR_BIN/weir inspect --verify "$precision-1" >/dev/null || fail "$precision: cannot be inspected"
done
# Split bf16 loses nothing at the server, and the model sees the upper half.
grep -q '^item/low ' split_bf16-1.digest || fail "split_bf16: no lower halves are saved"

# Eight optimisers, not one under eight names.
kinds=$(grep -h '^item/value ' {adamw,rowwise_adamw,adagrad,rowwise_adagrad,sgd,momentum,ftrl,group_adam}-1.digest | sort -u | wc -l)
[ "$kinds" -eq 8 ] || fail "eight optimisers made $kinds different tables"
if (train refused 1 1 $short --set sparse.l1=0.1) >refusal.log 2>&1; then
  fail "adamw took a penalty that it has not"
fi
grep -q 'l1, l2 and group_l1 are of' refusal.log || fail "the penalty is refused without a reason"
echo "ok"
