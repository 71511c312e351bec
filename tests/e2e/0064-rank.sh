#!/usr/bin/env bash
# weir rank: the chances that it gives candidates are those that evaluation measured, whatever the microbatch, the cache, the
# number of servers and workers; lists are ordered; bad requests are refused with their line.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
python3 - <<'PY'
import json, random
random.seed(5)
taste = [random.gauss(0, 1) for _ in range(80)]
quality = [random.gauss(0, 1) for _ in range(60)]
events = {}
with open("log.csv", "w") as log:
    log.write("user,item,rating,time\n")
    for user in range(80):
        now = 1000000
        for event in range(random.randint(12, 40)):
            item = random.randrange(60)
            now += 7200 if random.random() < 0.2 else 30
            liked = taste[user] + 1.5 * quality[item] + random.gauss(0, 0.5) > 0
            log.write(f"{user},{item},{5 if liked else 1},{now}\n")
            events.setdefault(user, []).append((item, liked, now))
# What evaluation asks: the events of the last session (gaps of at most 1800 s, 8 events at the most) after all before it.
with open("requests.jsonl", "w") as requests, open("labels.json", "w") as labels:
    wanted = []
    for user, log in events.items():
        first = 0
        for at in range(1, len(log)):
            if log[at][2] - log[at - 1][2] > 1800 or at - first == 8:
                first = at
        if first > 0:
            tests = log[first:]
            requests.write(json.dumps({"user": str(user), "items": [t[0] for t in tests], "known": first, "at": tests[0][2]}) + "\n")
            wanted += [(user, t[0], t[1]) for t in tests]
    json.dump(wanted, labels)
PY
expect 0 prepare 'users' weir prepare csv --file log.csv --user user --item item --time time --rating rating --out data
cat >config.yaml <<'YAML'
data: {path: data}
model: {kind: ranking, embedding_dim: 16, blocks: 2, heads: 2, dqk: 8, dv: 8, max_sequence_length: 30}
ranking: {max_targets: 8, user_token: true, hidden: 16, positions: 64, time_buckets: 64, session_gap: 1800}
sparse: {learning_rate: 0.01}
dense: {learning_rate: 0.005}
train: {batch_users: 32, epochs: 20, log_every: 50, seed: 3}
eval: {every_epochs: 20, batch_users: 32}
cluster: {timeout: 60}
YAML
train run 2 2
expect 0 eval '"ne"' weir eval --run run --json
expect 0 scores ' lists$' weir rank --run run --requests requests.jsonl --json --in-order --out scores.jsonl
python3 - <<'PY' || fail "the chances are not those that were evaluated"
import json, math
measured = json.load(open("eval.log"))["splits"]["test"]["tasks"][0]
labels = [label for _, _, label in json.load(open("labels.json"))]
chances = [entry["positive"] for line in open("scores.jsonl") for entry in json.loads(line)["items"]]
assert len(labels) == len(chances) == measured["samples"], (len(labels), len(chances), measured)
rate = sum(labels) / len(labels)
loss = -sum(math.log(p if y else 1 - p) for p, y in zip(chances, labels)) / len(labels)
ne = loss / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
pairs = [(p, q) for p, y in zip(chances, labels) if y for q, z in zip(chances, labels) if not z]
auc = sum((p > q) + 0.5 * (p == q) for p, q in pairs) / len(pairs)
assert abs(ne - measured["ne"]) < 1e-5 and abs(auc - measured["auc"]) < 1e-4, (ne, auc, measured)
assert auc > 0.7, auc
PY

# The same users twice, in small microbatches, without and with a cache; other servers and workers: equal to rounding.
cat requests.jsonl requests.jsonl >twice.jsonl
expect 0 small ' lists$' weir rank --run run --requests twice.jsonl --json --in-order --out small.jsonl --microbatch 3 --cache-mib 0 --workers 1
expect 0 cached ' lists$' weir rank --run run --requests twice.jsonl --json --in-order --out cached.jsonl --microbatch 3 --ps 1 --workers 3
cmp small.jsonl cached.jsonl || fail "the cache changes the chances"
python3 - <<'PY' || fail "a smaller microbatch changes the chances"
import json
whole = [json.loads(line) for line in open("scores.jsonl")]
small = [json.loads(line) for line in open("small.jsonl")]
assert len(small) == 2 * len(whole) and small[:len(whole)] == small[len(whole):]
for a, b in zip(whole, small):
    assert a["user"] == b["user"]
    for x, y in zip(a["items"], b["items"]):
        assert x["item"] == y["item"] and abs(x["positive"] - y["positive"]) < 1e-5
PY

# The whole catalogue, and a list of candidates.
expect 0 top '^user 3' weir rank --run run --user 3 --top 5
[ "$(grep -c '0\.' top.log)" -eq 5 ] || fail "not five items"
[ "$(weir rank --run run --user 3 --format csv | wc -l)" -eq 11 ] || fail "of the whole catalogue not the ten best"
printf '4\n9\n2\n' >items.txt
expect 0 three '^3,1,' weir rank --run run --user 3 --user 7 --candidates items.txt --format csv --by positive
python3 - <<'PY' || fail "lists are not ordered"
import csv
rows = list(csv.DictReader(open("three.log", newline="")))
assert [r["user"] for r in rows] == ["3"] * 3 + ["7"] * 3
for at in (0, 3):
    chances = [float(r["positive"]) for r in rows[at:at + 3]]
    assert chances == sorted(chances, reverse=True) and {r["item"] for r in rows[at:at + 3]} == {"4", "9", "2"}
PY

echo '{"user": "3", "items": ["4"]}' >good.jsonl
refuse() { # STATUS PATTERN LINE: a line of requests that is refused
  { cat good.jsonl; printf '%s\n' "$3"; } >bad.jsonl
  expect "$1" bad "$2" weir rank --run run --requests bad.jsonl
}
refuse 8 'no item "x"' '{"user": "3", "items": ["x"]}'
refuse 8 'no user "x"' '{"user": "x", "items": ["4"]}'
refuse 2 'line 2' '{"user": "3", "items": ["4"'
refuse 2 'line 2 is not' '{"user": "3"}'
refuse 2 'line 2: an id' '{"user": "3", "items": [1.5]}'
refuse 2 '"knwn" is none of' '{"user": "3", "items": ["4"], "knwn": 1}'
refuse 2 'known' '{"user": "3", "items": ["4"], "known": 0}'
refuse 2 'has [0-9]+ events' '{"user": "3", "items": ["4"], "known": 1000}'
refuse 2 'before the last event' '{"user": "3", "items": ["4"], "at": 5}'
expect 2 action 'predicts no "click"' weir rank --run run --user 3 --by click
expect 2 both 'says itself' weir rank --run run --user 3 --requests good.jsonl
expect 2 kind 'weir rank scores' weir recommend --run run --user 3
[ -z "$(ls -d run/requests-* 2>/dev/null)" ] || fail "requests stay behind"
