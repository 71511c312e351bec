#!/usr/bin/env bash
# A ranking model on a stream: each window is measured before it is trained on, all its sessions at once; the result does
# not depend on servers or on a stop in the middle of a window, and what is not yet known is not seen.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
python3 - <<'PY'
import random
random.seed(7)
taste = [random.gauss(0, 1) for _ in range(120)]
quality = [random.gauss(0, 1) for _ in range(50)]
events = []
for user in range(120):
    now = 1000000 + random.randrange(86400)
    for event in range(random.randint(30, 80)):
        now += random.randrange(20000, 60000) if random.random() < 0.3 else 600
        item = random.randrange(50)
        liked = taste[user] + 1.5 * quality[item] + random.gauss(0, 0.5) > 0
        events.append((now, user, item, 5 if liked else 1))
events.sort()
with open("log.csv", "w") as log:
    log.write("user,item,rating,time\n")
    log.writelines(f"{user},{item},{rating},{now}\n" for now, user, item, rating in events)
first = events[0][0]
windows = {}
for now, *_ in events:
    windows[(now - first) // 86400] = windows.get((now - first) // 86400, 0) + 1
with open("windows.txt", "w") as out:
    out.writelines(f"{windows[w]}\n" for w in sorted(windows))
PY
expect 0 prepare 'users' weir prepare csv --file log.csv --user user --item item --time time --rating rating --out data
cat >config.yaml <<'YAML'
data: {path: data}
model: {kind: ranking, embedding_dim: 16, blocks: 2, heads: 2, dqk: 8, dv: 8, max_sequence_length: 30}
ranking: {max_targets: 4, user_token: true, hidden: 16, positions: 64, time_buckets: 64, session_gap: 900, history_gap: 1800}
sparse: {optimizer: rowwise_adagrad, learning_rate: 0.05}
dense: {learning_rate: 0.005}
train: {batch_users: 16, log_every: 20, seed: 3}
eval: {batch_users: 32}
cluster: {timeout: 60}
YAML
train one 1 2 --stream=86400
train two 2 2 --stream=86400 --set train.pull_ahead=3
train half 2 2 --stream=86400 --set train.max_steps=61
train half 1 2 --resume --stream=86400
train single 1 1 --stream=86400
train known 1 1 --stream=86400 --set ranking.history_gap=0
for run in one two half known; do
  digest $run >$run.digest
done
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "two servers, another result"
diff one.digest half.digest || fail "stopped in a window and resumed, another result"
! diff -q one.digest known.digest >/dev/null || fail "the gap before a session changes nothing"
[ ! -e one/checkpoints/best ] || fail "of windows that differ, one is the best"
expect 0 eval '"ne"' weir eval --run one --json
python3 - <<'PY' || fail "windows are not measured as they should be"
import json
def tests(run):
    return [line for line in map(json.loads, open(f"{run}/metrics.jsonl")) if line["kind"] == "eval"]
events = [int(line) for line in open("windows.txt")]  # of each window: all are predicted
one, single = tests("one"), tests("single")
assert len(one) == len(events) - 1 > 8, (len(one), len(events))
assert [line["samples"] for line in one] == events[1:], ([line["samples"] for line in one], events)
assert [line["window"] for line in one] == list(range(2, len(events) + 1))
assert all(a["auc"] == b["auc"] for a, b in zip(one, tests("two")))
assert all(abs(a["ne"] - b["ne"]) < 0.05 for a, b in zip(one, single))
now = json.load(open("eval.log"))["splits"]["test"]
assert abs(now["auc"] - one[-1]["auc"]) < 1e-9 and now["samples"] == events[-1], (now, one[-1])
middle = [line["auc"] for line in one[len(one) // 2:]]
assert sum(middle) / len(middle) > 0.7, [line["auc"] for line in one]  # planted: taste and quality
PY
# The listens of weir synth --music by the configuration that the repository holds, made smaller.
expect 0 music 'listens' weir synth --music --users 80 --items 600 --events-mean 400 --days 12 --out music
sed -e 's#data/music#music#' "$WEIR_SOURCE/configs/music-dlrmv4.yaml" >config-music.yaml
timeout -k 5 300 weir train --config config-music.yaml --run listens --ps 1 --workers 2 --set model.embedding_dim=16 \
  --set model.blocks=1 --set model.max_sequence_length=32 --set train.batch_users=16 >listens.log 2>&1 || fail "the listens do not train"
python3 - <<'PY' || fail "nothing is learned of the listens"
import json
last = [line for line in map(json.loads, open("listens/metrics.jsonl")) if line["kind"] == "eval"]
assert len(last) == 1 and last[0]["window"] == last[0]["windows"] >= 12, last
assert last[0]["auc"] > 0.6, last
PY
expect 2 unmusical 'no use for --clusters' weir synth --music --clusters 5 --out none

expect 2 refused 'the last window is' weir train --config config.yaml --run none --stream=86400 --set ranking.test_from=1100000
expect 2 validation 'every window is' weir train --config config.yaml --run none --stream=86400 --set eval.validation=true
echo "ok"
