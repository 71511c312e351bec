#!/usr/bin/env bash
# Rows of two segments: an item's embedding and its bias, each with its own optimiser and precision.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config
biased="--set model.item_bias=true --set item_bias.optimizer=adagrad --set item_bias.learning_rate=0.1
  --set sparse.precision=bf16 --set sparse.optimizer=rowwise_adagrad --set sparse.learning_rate=0.02"

train one 1 2 $biased
train two 2 2 $biased --set train.pull_ahead=3
train half 2 2 $biased --set train.epochs=3
train half 3 2 $biased --set train.epochs=6 --resume
for run in one two half; do
  digest $run >$run.digest
done
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "two servers, another result"
diff one.digest half.digest || fail "resumed, another result"
grep -q '^item/bias\.value ' one.digest || fail "the biases are not in the checkpoint"
grep -q '^item/bias\.s ' one.digest || fail "the state of the biases' optimiser is not in the checkpoint"
expect 0 verify 'ok' weir inspect one --verify

# Where nothing else learns, they learn who is popular.
train alone 2 2 --set model.item_bias=true --set item_bias.learning_rate=0.05 --set sparse.learning_rate=0 \
  --set dense.learning_rate=0 --set eval.every_epochs=0

# Evaluation sees them too, and repeats what training measured last.
expect 0 eval '"hr@10"' weir eval --run one --json
python3 - <<'PY' || fail "the biases are not those of popular items, or evaluation differs"
import glob, json, struct

last = [r for r in map(json.loads, open("one/metrics.jsonl")) if r["kind"] == "eval" and r["split"] == "test"][-1]
now = json.load(open("eval.log"))["splits"]["test"]
for name in ("users", "hr@10", "ndcg@10", "mrr"):
    assert abs(last[name] - now[name]) < 1e-9, (name, last[name], now[name])

def read(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, body = json.loads(file.read(size)), file.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for name, t in header.items()}

bias = {}
for table in map(read, glob.glob("alone/checkpoints/latest/item.*.safetensors")):
    rows = table["keys"][1][0]
    assert table["bias.value"][:2] == ("F32", [rows, 1]), table["bias.value"][:2]
    keys = struct.unpack(f"<{rows}Q", table["keys"][2])
    bias.update(zip(keys, struct.unpack(f"<{rows}f", table["bias.value"][2])))
items, = [t for name, t in read("data/events.safetensors").items() if name == "items"]
seen = {}
for item in struct.unpack(f"<{items[1][0]}q", items[2]):
    seen[item] = seen.get(item, 0) + 1
order = sorted(bias, key=lambda item: seen.get(item, 0))
third = len(order) // 3
rare, popular = (sum(bias[k] for k in part) / third for part in (order[:third], order[-third:]))
print("mean bias of rare items", rare, "of popular ones", popular)
assert popular > rare + 0.1
PY

# Without the key there is one segment, as ever; a checkpoint is of one kind.
train without 1 1 --set train.epochs=1
digest without | grep '^item/bias' && fail "a model without biases has some"
expect 2 mixed 'of another model' weir train --config config.yaml --run one --ps 1 --workers 2 --resume $biased --set model.item_bias=false
echo "ok"
