#!/usr/bin/env bash
# train.order: stream: each window is measured before it is trained on, the result does not depend on servers or on a
# stop in the middle of a window, and what can be learned of the paper's stream is learned.
. "$WEIR_SOURCE/tests/e2e/lib.sh"
expect 0 synth 'records' weir synth --paper --users 3000 --items 500 --clusters 20 --length 32 --out data
cat >config.yaml <<'YAML'
data: {path: data}
model: {embedding_dim: 16, blocks: 2, heads: 1, dqk: 16, dv: 16, max_sequence_length: 32, output_length: 1, time_bias: false}
loss: {negatives: 32}
sparse: {learning_rate: 0.01}
dense: {learning_rate: 0.005}
train: {batch_users: 32, log_every: 20, seed: 3}
eval: {rank_known: true, batch_users: 64}
cluster: {timeout: 60}
YAML
train one 1 2 --stream=9600
train two 2 2 --stream=9600
train half 2 2 --set train.order=stream --set train.stream_window=9600 --set train.max_steps=37
train half 1 2 --resume --stream=9600
train single 1 1 --stream=9600
for run in one two half; do
  digest $run >$run.digest
done
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "two servers, another result"
diff one.digest half.digest || fail "stopped in a window and resumed, another result"
expect 0 eval '"hr@10"' weir eval --run one --json
[ ! -e one/checkpoints/best ] || fail "of windows that differ, one is the best"
expect 0 report '' weir report one
for window in 2 10; do
  grep -q ">window $window<" one/report.html || fail "the report does not tell of window $window"
done
python3 - <<'PY' || fail "windows are not measured as they should be"
import json
def lines(run):
    return [json.loads(line) for line in open(f"{run}/metrics.jsonl")]
def tests(run):
    return [line for line in lines(run) if line["kind"] == "eval"]
# 3,000 records of 32 s each: ten windows of 300 records, of which nine are trained on, in 10 steps each.
one = tests("one")
assert [line["step"] for line in one] == [10 * w for w in range(1, 10)], [line["step"] for line in one]
assert all(line["users"] == 300 for line in one)
assert [(line["window"], line["windows"], line["best"]) for line in one] == [(w + 1, 10, False) for w in range(1, 10)]
keys = [key for key in one[0] if key.startswith(("hr@", "ndcg@"))]
assert [[line[key] for key in keys] for line in one] == [[line[key] for key in keys] for line in tests("two")]
single = tests("single")
assert max(abs(a["hr@50"] - b["hr@50"]) for a, b in zip(one, single)) < 0.05
now = json.load(open("eval.log"))["splits"]["test"]
assert all(abs(now[key] - one[-1][key]) < 1e-6 for key in keys), (now, one[-1])
# About 24 items in each of at most 5 categories, 490 in all: chance is .10 of HR@50, the categories of a history give more.
assert one[-1]["hr@50"] > 0.4, one[-1]["hr@50"]
PY
refuse() { # PATTERN SETTING [WINDOW]: refused before anything starts
  expect 2 refused "$1" weir train --config config.yaml --run none "--stream=${3:-9600}" --set "$2"
}
refuse 'every window is' eval.validation=true
refuse 'model.kind has not' model.kind=bert4rec
refuse 'a stream needs 2' train.seed=3 1000000
expect 2 length 'goes with --paper' weir synth --length 5 --out other
expect 2 mean 'no use for --events-mean' weir synth --paper --events-mean 5 --out other
