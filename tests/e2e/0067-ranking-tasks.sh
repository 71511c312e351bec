#!/usr/bin/env bash
# ranking.tasks: numbers are predicted beside actions, in their own measure and better than by their mean; weights; names
# that the data does not have are refused with those that it has.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
expect 0 synth 'click' weir synth --actions --out data --users 400 --items 200 --events-mean 40 --seed 4
cat >config.yaml <<'YAML'
data: {path: data}
model: {kind: ranking, embedding_dim: 16, blocks: 1, heads: 2, dqk: 8, dv: 8, max_sequence_length: 30}
ranking: {max_targets: 8, hidden: 16, positions: 64, time_buckets: 64, tasks: "click, watched=0.5"}
sparse: {learning_rate: 0.01}
dense: {learning_rate: 0.005}
train: {batch_users: 32, epochs: 25, log_every: 50, seed: 3}
eval: {every_epochs: 25, batch_users: 32}
cluster: {timeout: 60}
YAML
train both 1 2
expect 0 eval '"nmse"' weir eval --run both --json
expect 0 text 'mean squared error' weir eval --run both
expect 0 names '^ .* watched +item$' weir rank --run both --user u3 --top 3
expect 0 rank '"watched"' weir rank --run both --user u3 --json --by watched --top 1000
train alone 2 1 --set ranking.tasks=watched
python3 - <<'PY' || fail "numbers are not predicted"
import json
def last(run):
    return [r for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "eval"][-1]
test = json.load(open("eval.log"))["splits"]["test"]
assert [task["name"] for task in test["tasks"]] == ["click", "watched"], test
click, watched = test["tasks"]
assert click["auc"] > 0.6 and watched["label_mean"] > 1, test  # in seconds, not in deviations
assert 0.5 * watched["label_mean"] < watched["score_mean"] < 2 * watched["label_mean"], watched
assert test["nmse"] < 0.98, test  # 1 is the variance of what was trained on
assert last("alone")["nmse"] < 0.98, last("alone")
items = json.load(open("rank.log"))["items"]
values = [item["watched"] for item in items]
assert len(values) == 200 and values == sorted(values, reverse=True) and all(0 <= item["click"] <= 1 for item in items)
PY
refuse() { # PATTERN TASKS: refused before any process starts
  expect 2 refused "$1" weir train --config config.yaml --run none --set "ranking.tasks=$2"
  [ ! -e none ] || fail "a run folder is left"
}
refuse 'names "nothing"' 'click, nothing'
refuse 'there are: click, like, watched' 'x'
refuse 'names click twice' 'click, click=2'
refuse 'the weight of click' 'click=0'
refuse 'the weight of click' 'click=abc'
