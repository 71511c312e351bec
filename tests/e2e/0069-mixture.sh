#!/usr/bin/env bash
# model.similarity: mixture learns, is the same bits for any number of servers and after a resume, evaluates and
# recommends by one score, and refuses what it has not.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config
mixed="--set model.similarity=mixture --set mixture.query_parts=2 --set mixture.item_parts=2 --set mixture.width=8
  --set mixture.hidden=16 --set mixture.gate_hidden=8"

train one 1 2 $mixed
train two 2 2 $mixed
digest one >one.digest
digest two >two.digest
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "two servers, another result"
grep -q 'mixture.gate_pair.output_weight' one.digest || fail "the mixture's parameters are not saved"

# Stopped half way and resumed, with another number of servers.
train half 2 2 $mixed --set train.max_steps=11
train half 1 2 $mixed --resume
digest half >half.digest
diff one.digest half.digest || fail "resumed, another result"

# Another number of workers: the same up to rounding.
train alone 1 1 $mixed
python3 - <<'PY' || fail "the runs do not agree, or nothing was learned"
import json
def read(run):
    return [json.loads(line) for line in open(f"{run}/metrics.jsonl")]
losses = {run: [r["loss"] for r in read(run) if r["kind"] == "train"] for run in ("one", "alone")}
assert len(losses["one"]) >= 8 and len(losses["one"]) == len(losses["alone"])
assert all(abs(a - b) < 2e-3 * a for a, b in zip(losses["one"], losses["alone"])), losses
assert sum(losses["one"][-4:]) < sum(losses["one"][:4]), losses
PY

expect 0 eval '"hr@10"' weir eval --run one --json
expect 0 full 'diversity' weir eval --run one --full
expect 0 lists 'left out|lists' weir recommend --run one --as-test --json --out lists.jsonl --top 10
expect 0 other 'left out|lists' weir recommend --run one --as-test --json --out other.jsonl --top 10 --ps 2 --workers 1
cmp lists.jsonl other.jsonl || fail "another number of servers and workers, other lists"
python3 - <<'PY' || fail "evaluation and recommendation do not agree"
import json
metrics = json.load(open("eval.log"))["splits"]["test"]
lists = [json.loads(line) for line in open("lists.jsonl")]
assert len(lists) == metrics["users"] == 120
assert metrics["hr@10"] > 1.5 * 10 / 90, metrics  # better than chance
for line in lists:
    scores = [entry["score"] for entry in line["items"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 10
PY

expect 2 bias 'no use for' weir train --config config.yaml --run refused $mixed --set model.item_bias=true
expect 2 catalogue 'loss.sharing is catalogue' weir train --config config.yaml --run refused $mixed --set loss.sharing=catalogue
expect 2 model 'another model|of another' weir train --config config.yaml --run one --resume $mixed --set mixture.width=9
echo "ok"
