#!/usr/bin/env bash
# weir eval --full and --per-user: the same bytes for any number of servers and workers, and what another program counts
# from the lists of weir recommend and from the data; a split by time keeps its tests out of training.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
python3 - <<'PY'
import csv, random
random.seed(5)
with open("log.csv", "w", newline="") as log:
    out = csv.writer(log)
    out.writerow(["user", "item", "time"])
    for user in range(150):
        now, items, at = 1000000 + random.randrange(60000), set(range(90)), random.randrange(90)
        events = random.randint(3, 20)
        for event in range(events):
            now += random.randint(1, 5000)
            at = min(items, key=lambda i: ((i - at) % 90, i)) if random.random() < 0.8 else random.choice(sorted(items))
            items.discard(at)
            cold = user % 15 == 7 and event == events - 1  # nobody else has it
            out.writerow([user, f"new-{user}" if cold else at, now])
PY
expect 0 prepare 'users' weir prepare csv --file log.csv --user user --item item --time time --out data
make_config
train run 2 2 --set train.epochs=9

evaluate() { # NAME PS WORKERS [args...]
  local name=$1 ps=$2 workers=$3
  shift 3
  expect 0 "$name" '"lists"' weir eval --run run --full --at 1,5,10 --per-user "$name.st" --json --ps "$ps" --workers "$workers" "$@"
}
evaluate one 1 1
evaluate three 2 3
cmp one.log three.log || fail "another number of workers, other metrics"
cmp one.st three.st || fail "another number of workers, other results of users"
[ ! -e run/eval-users-validation.safetensors ] || fail "results of a split that nobody asked for"
expect 0 table 'opportunity_spread' weir eval --run run --full
weir recommend --run run --as-test --json --out lists.jsonl --top 10 --workers 1 || fail "no lists"
cat >count.py <<'PY'
import csv, json, math, struct, sys

def tensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    return {k: struct.unpack(f"<{v['shape'][0]}q", data[8 + size + v["data_offsets"][0] : 8 + size + v["data_offsets"][1]])
            for k, v in header.items() if k != "__metadata__"}

def near(a, b, what):  # those of ranks have eight digits
    assert abs(a - b) < 1e-7 * (1 + abs(b)), (what, a, b)

events = {}
for line in csv.DictReader(open("log.csv")):
    events.setdefault(line["user"], []).append(line["item"])
test = json.load(open("one.log"))["splits"]["test"]
got, lists = test["lists"], {}
for line in map(json.loads, open("lists.jsonl")):
    lists[line["user"]] = [entry["item"] for entry in line["items"]]
users = list(lists)
n = len(users)
assert n == test["users"] == got["users"] == len(events) == 150
popularity = {}
for user, items in events.items():
    for item in set(items[:-1]):
        popularity[item] = popularity.get(item, 0) + 1
catalogue = {item for items in events.values() for item in items}
first = {item: min(i for i, user in enumerate(events) if item in events[user]) for item in catalogue}
assert test["catalogue"] == {"items": len(catalogue), "in_training": len(popularity), "users": 150}
for k in (1, 5, 10):
    tops = {u: lists[u][:k] for u in users}
    hit = {u: events[u][-1] in tops[u] for u in users}
    place = {u: lists[u].index(events[u][-1]) + 1 if hit[u] else 0 for u in users}
    p = lambda item: popularity.get(item, 0)
    near(got[f"recall@{k}"], sum(hit.values()) / n, "recall")
    near(got[f"precision@{k}"], sum(hit.values()) / n / k, "precision")
    near(got[f"map@{k}"], sum(1 / place[u] for u in users if hit[u]) / n, "map")
    near(got[f"coverage@{k}"], len({i for u in users for i in tops[u]}) / len(catalogue), "coverage")
    near(got[f"epc@{k}"], sum(1 - p(i) / 150 for u in users for i in tops[u]) / n / k, "epc")
    near(got[f"popularity@{k}"], sum(p(i) for u in users for i in tops[u]) / n / k, "popularity")
    ideal = sum(1 / math.log2(j + 2) for j in range(k))
    near(got[f"epc_relevant@{k}"],
         sum((1 - p(events[u][-1]) / 150) / math.log2(place[u] + 1) for u in users if hit[u]) / ideal / n, "epc_relevant")
    if k > 1:
        assert 0.0 < got[f"diversity@{k}"] < 2.0
    assert got["diversity@1"] is None
near(got["recall@1"], test["hr@1"], "HR@1")
near(got["recall@10"], test["hr@10"], "HR@10")
near(got["ndcg@10"], test["ndcg@10"], "NDCG@10")
near(got["r_precision"], test["hr@1"], "R-precision")
assert 0.1 < test["hr@10"] < 1.0, test

results = tensors("one.st")
names = list(events)  # in the order of the data
assert list(results["users"]) == list(range(150))
ranks = results["ranks"]
near(sum(1 / r for r in ranks) / n, test["mrr"], "MRR")
for u, rank in enumerate(ranks):
    place = lists[names[u]].index(events[names[u]][-1]) + 1 if events[names[u]][-1] in lists[names[u]] else None
    assert place == (rank if rank <= 10 else None), (u, rank, place)
cold = [r for u, r in enumerate(ranks) if popularity.get(events[names[u]][-1], 0) == 0]
warm = [r for u, r in enumerate(ranks) if popularity.get(events[names[u]][-1], 0) > 0]
assert len(cold) == 10, len(cold)
for part, of in (("cold_items", cold), ("warm_items", warm)):
    assert test[part]["users"] == len(of), (part, len(of))
    near(test[part]["hr@50"] * 1.0, sum(r <= 50 for r in of) / max(1, len(of)), part)

def places(values):  # of equal ones the mean
    order = sorted(values)
    return [(2 * order.index(v) + order.count(v) + 1) / 2 for v in values]

targets = {}
for u, rank in enumerate(ranks):
    targets.setdefault(events[names[u]][-1], []).append(rank)
kept = [i for i in targets if popularity.get(i, 0) > 0]
a = places([popularity[i] for i in kept])
b = places([sum(targets[i]) / len(targets[i]) for i in kept])
middle = (len(kept) + 1) / 2
correlation = sum((x - middle) * (y - middle) for x, y in zip(a, b)) / math.sqrt(
    sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))
near(test["popularity_opportunity"], -correlation, "popularity opportunity")
PY
python3 count.py || fail "another program counts otherwise"

# Intervals, and whether the end of training is better than its middle.
expect 0 intervals '95% intervals from 500' weir eval --run run --bootstrap 500 --seed 4
expect 0 intervals-json '"intervals"' weir eval --run run --bootstrap 500 --seed 4 --json
middle=$(basename "$(ls -d run/checkpoints/step-* | head -n 1)" | sed 's/step-0*//')
expect 0 middle 'users' weir eval --run run --step "$middle" --per-user middle.st
expect 0 gain 'p: Wilcoxon' weir eval-diff middle.st one.st
expect 0 gain-json '"p_t"' weir eval-diff --json middle.st one.st
python3 - <<'PY' || fail "intervals, or the gain"
import json
test = json.load(open("intervals-json.log"))["splits"]["test"]
for name, interval in test["intervals"].items():
    if isinstance(interval, dict):
        assert abs(interval["mean"] - test[name]) < 1e-7 and interval["low"] < interval["mean"] < interval["high"], name
gain = json.load(open("gain-json.log"))["metrics"]["mrr"]
assert abs(gain["second"] - test["mrr"]) < 1e-7 and gain["gain"] > 0, gain
assert max(gain["p_t"], gain["p_wilcoxon"], gain["p_sign_flips"]) < 0.05 and gain["low"] > 0, gain
PY
expect 2 same-user 'two files' weir eval-diff one.st

expect 2 rising 'rising numbers' weir eval --run run --full --at 5,5
expect 2 lists 'lists that --full measures' weir eval --run run --at 5
mkdir elsewhere
(cd elsewhere && expect 8 folder 'set data.path=FOLDER' weir eval --run ../run)
expect 8 place "create 'nowhere/users.st'" weir eval --run run --per-user nowhere/users.st
expect 2 zero 'rising numbers' weir eval --run run --full --at 0,5

# Split by time: what comes then or later changes nothing in training.
at=$(python3 - <<'PY'
import csv
times = sorted(int(line["time"]) for line in csv.DictReader(open("log.csv")))
print(times[len(times) * 7 // 10])
PY
)
train time 1 2 --set train.epochs=9 --set eval.test_from="$at"
expect 0 later '"lists"' weir eval --run time --full --at 1,10 --per-user later.st --json
python3 - "$at" <<'PY' || fail "split by time"
import csv, json, sys
at, before, after = int(sys.argv[1]), {}, {}
for line in csv.DictReader(open("log.csv")):
    (before if int(line["time"]) < at else after).setdefault(line["user"], []).append(line["item"])
test = json.load(open("later.log"))["splits"]["test"]
both = [user for user in before if user in after]
assert 50 < len(both) == test["users"] == test["lists"]["users"], (len(both), test["users"])
trained = {item for items in before.values() for item in items}
assert test["catalogue"]["in_training"] == len(trained) and test["catalogue"]["users"] == len(before)
assert test["cold_items"]["users"] == sum(after[user][0] not in trained for user in both)
# Many items are relevant: recall is no longer the hits, and no list of ten has more of them.
least = sum(min(1, 10 / len(after[user])) for user in both) / len(both)
assert 0 < test["lists"]["recall@10"] <= least, (test["lists"], least)
assert test["lists"]["precision@10"] > test["hr@10"] / 10
PY
expect 0 popularity '"mrr"' weir baseline popularity --data data --test-from "$at" --json --per-user popularity.st
expect 0 beats '"p_t"' weir eval-diff --json popularity.st later.st
weir recommend --run time --as-test --json --out time.jsonl --top 10 || fail "no lists of the split by time"
python3 - <<'PY' || fail "what else splits by time"
import json
test = json.load(open("later.log"))["splits"]["test"]
assert json.load(open("popularity.log"))["splits"]["test"]["users"] == test["users"]
assert sum(1 for line in open("time.jsonl")) == test["users"]
beats = json.load(open("beats.log"))
popularity = json.load(open("popularity.log"))["splits"]["test"]
assert (beats["users"], beats["only_first"], beats["only_second"]) == (test["users"], 0, 0), beats
for name, metric in beats["metrics"].items():
    assert abs(metric["first"] - popularity[name]) < 1e-7 and abs(metric["second"] - test[name]) < 1e-7, (name, metric)
PY
# The same events before, others after: the same rows. One user has all items first, so that they keep their numbers.
python3 - "$at" <<'PY'
import csv, sys
at = int(sys.argv[1])
rows = [[line["user"], line["item"], int(line["time"])] for line in csv.DictReader(open("log.csv"))]
items = sorted({row[1] for row in rows})
later = sorted(row[1] for row in rows if row[2] >= at)
for name in ("same", "other"):
    with open(name + ".csv", "w", newline="") as log:
        out = csv.writer(log)
        out.writerow(["user", "item", "time"])
        out.writerows(["all", item, 1000 + i] for i, item in enumerate(items))
        for user, item, time in rows:
            out.writerow([user, later.pop() if name == "other" and time >= at else item, time])
PY
for name in same other; do
  expect 0 "prepare-$name" 'users' weir prepare csv --file "$name.csv" --user user --item item --time time --out "$name"
  train "run-$name" 1 2 --set data.path="$name" --set train.epochs=2 --set eval.validation=true --set eval.test_from="$at"
done
[ "$(digest run-same/checkpoints/latest)" = "$(digest run-other/checkpoints/latest)" ] || fail "tests are trained on"
