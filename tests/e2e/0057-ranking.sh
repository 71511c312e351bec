#!/usr/bin/env bash
# A ranking model from a log to its metrics: it learns what was planted, its results do not depend on the number of servers
# or on a restart, and evaluation repeats what training measured.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
python3 - <<'PY'
import random
random.seed(5)
taste = [random.gauss(0, 1) for _ in range(150)]
quality = [random.gauss(0, 1) for _ in range(60)]
kind = [random.randrange(4) for _ in range(60)]
with open("items.csv", "w") as items:
    items.write("item,kind\n")
    items.writelines(f"{item},k{kind[item]}\n" for item in range(60))
with open("log.csv", "w") as log, open("actions.csv", "w") as actions:
    log.write("user,item,rating,time\n")
    actions.write("user,item,time,click,share,hour\n")
    for user in range(150):
        now = 1000000
        for event in range(random.randint(20, 60)):
            item = random.randrange(60)
            now += 7200 if random.random() < 0.2 else 30
            liked = taste[user] + 1.5 * quality[item] + random.gauss(0, 0.5) > 0
            share = random.random() < (0.8 if kind[item] == 0 else 0.1)
            log.write(f"{user},{item},{5 if liked else 1},{now}\n")
            actions.write(f"{user},{item},{now},{int(liked)},{int(share)},{now // 3600 % 24}\n")
PY
expect 0 prepare 'users' weir prepare csv --file log.csv --user user --item item --time time --rating rating --out data
cat >config.yaml <<'YAML'
data: {path: data}
model: {kind: ranking, embedding_dim: 16, blocks: 2, heads: 2, dqk: 8, dv: 8, max_sequence_length: 30}
ranking: {max_targets: 8, user_token: true, hidden: 16, positions: 64, time_buckets: 64}
sparse: {learning_rate: 0.01}
dense: {learning_rate: 0.005}
train: {batch_users: 32, epochs: 40, log_every: 50, seed: 3}
eval: {every_epochs: 20, batch_users: 32, validation: true}
cluster: {timeout: 60}
YAML

train one 1 2
train two 2 2 --set train.pull_ahead=3
train half 2 2 --set train.epochs=20
train half 3 2 --resume
for run in one two half; do
  digest $run >$run.digest
done
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "two servers, another result"
diff one.digest half.digest || fail "resumed, another result"

train single 1 1
train summed 1 1 --set ranking.tokens=summed --set ranking.user_token=false
expect 0 eval '"ne"' weir eval --run one --json
expect 0 text 'grouped AUC' weir eval --run one
python3 - <<'PY' || fail "the model has not learned, or evaluation differs"
import json
def last(run, split="test"):
    return [r for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "eval" and r["split"] == split][-1]
now = json.load(open("eval.log"))["splits"]
for split in ("test", "validation"):
    for name in ("samples", "ne", "auc", "calibration"):
        assert abs(last("one", split)[name] - now[split][name]) < 1e-6, (split, name)
    assert abs(now[split]["tasks"][0]["auc"] - now[split]["auc"]) < 1e-6
for run in ("one", "single", "summed"):
    value = last(run)
    print(run, "NE", value["ne"], "AUC", value["auc"], "samples", value["samples"])
    assert value["auc"] > 0.75 and value["ne"] < 0.9, (run, value["auc"], value["ne"])
assert abs(last("one")["auc"] - last("single")["auc"]) < 0.02
PY
# Parts of histories, the same for any number of workers and servers.
shorter="--set ranking.stochastic_length=1.3 --set train.epochs=20"
train cut 1 1 $shorter
train cuts 2 1 $shorter
train parts 1 2 $shorter
digest cut >cut.digest
digest cuts >cuts.digest
diff cut.digest cuts.digest || fail "parts of histories: two servers, another result"
python3 - <<'PY' || fail "parts of histories are not what they should be"
import json
def lines(run, kind):
    return [r for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == kind]
cut, parts, whole = (lines(run, "eval")[-1] for run in ("cut", "parts", "single"))
print(cut["auc"], parts["auc"])
assert abs(cut["auc"] - parts["auc"]) < 0.02 and cut["auc"] > 0.75
PY
expect 2 alpha 'it is 0 or above 1' weir train --config config.yaml --run no --ps 1 --workers 1 --set ranking.stochastic_length=0.5

# Several actions, features, and tests by time.
cat >schema.yaml <<'YAML'
log: {path: actions.csv, user: user, item: item, time: time}
files:
  items: {path: items.csv, key: item}
actions: {click: click, share: share}
context:
  hour: hour
item_features:
  kind: {from: items, column: kind}
YAML
expect 0 tables 'share' weir prepare tables --schema schema.yaml --out tables
many="--set data.path=tables --set ranking.test_from=1040000 --set eval.validation=false"
train many 1 1 $many
train more 2 1 $many
digest many >many.digest
digest more >more.digest
diff many.digest more.digest || fail "several actions: two servers, another result"
expect 0 several '"tasks"' weir eval --run many --json
python3 - <<'PY' || fail "several actions are not learned"
import csv, json
tests = sum(int(row["time"]) >= 1040000 for row in csv.DictReader(open("actions.csv")))
result = json.load(open("several.log"))["splits"]["test"]
assert result["samples"] == tests, (result["samples"], tests)
print([(task["ne"], task["auc"]) for task in result["tasks"]])
assert len(result["tasks"]) == 2
assert result["tasks"][0]["auc"] > 0.75 and result["tasks"][1]["auc"] > 0.65, result
PY
expect 0 list 'auc 0' weir inspect ls one
expect 0 report 'report' weir report one
expect 2 kinds 'model.user_embedding' weir train --config config.yaml --run no --ps 1 --workers 1 --set model.user_embedding=true
expect 2 mixed 'of another model|another model' weir train --config config.yaml --run one --ps 1 --workers 2 --resume --set model.kind=hstu
echo "ok"
