#!/usr/bin/env bash
# weir recommend: its lists say what evaluation says, whatever the number of servers and workers, leave out what a user
# knows, come in three forms with the ids of the source, and leave nothing behind.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
python3 - <<'PY'
import csv, random
random.seed(11)
with open("log.csv", "w", newline="") as log:
    out = csv.writer(log)
    out.writerow(["user", "item", "time"])
    for user in range(120):
        at, now = random.randrange(90), 1000000
        for event in range(random.randint(1 if user == 5 else 3, 1 if user == 5 else 20)):
            at = (at + random.choice([1, 1, 2, 30])) % 90
            now += random.randint(1, 5000)
            out.writerow([f"user-{user}", f'item "{at}", no. {at}', now])
PY
expect 0 prepare 'users' weir prepare csv --file log.csv --user user --item item --time time --out data
make_config
train run 2 2

expect 0 eval '"hr@10"' weir eval --run run --json
expect 0 test "left out: nothing is known" weir recommend --run run --as-test --json --out test.jsonl --top 10
expect 0 all ' 120 lists' weir recommend --run run --format csv --out all.csv --top 7
expect 0 known 'user-3' weir recommend --run run --with-known --user user-3 --user user-5 --json --top 100
python3 - <<'PY' || fail "the lists are not what evaluation counts"
import csv, json
events = {}
for line in csv.DictReader(open("log.csv")):
    events.setdefault(line["user"], []).append(line["item"])
metrics = json.load(open("eval.log"))["splits"]["test"]
lists = {line["user"]: line["items"] for line in map(json.loads, open("test.jsonl"))}
assert len(lists) == metrics["users"] == 119, len(lists)
hits = reciprocal = 0
for user, items in lists.items():
    names = [entry["item"] for entry in items]
    scores = [entry["score"] for entry in items]
    assert scores == sorted(scores, reverse=True) and len(set(names)) == 10, user
    *known, target = events[user]
    assert not set(names) & (set(known) - {target}), user
    hits += target in names and target not in known
    reciprocal += names[0] == target
repeated = sum(target in known for *known, target in events.values() if known)
assert abs(hits / len(lists) - metrics["hr@10"]) * len(lists) <= repeated + 1e-9, (hits, metrics, repeated)
assert hits > 20, hits  # the model has learned something that can be right or wrong
rows = list(csv.DictReader(open("all.csv", newline="")))
assert len(rows) == 7 * 120 and all(not set(events[r["user"]]) & {r["item"]} for r in rows)
assert [int(r["place"]) for r in rows[:8]] == [1, 2, 3, 4, 5, 6, 7, 1]
known = {line["user"]: line["items"] for line in (json.loads(l) for l in open("known.log"))}
assert len(known["user-3"]) == 90 and len(known["user-5"]) == 90
PY
expect 0 other 'left out' weir recommend --run run --as-test --json --out other.jsonl --ps 1 --workers 3
cmp test.jsonl other.jsonl || fail "another number of servers and workers, other lists"
printf 'user-7\n\nuser-2\n' >users.txt
expect 0 two '^user user-2' weir recommend --run run --users users.txt --top 2
[ "$(grep -c item two.log)" -eq 4 ] || fail "not two lists of two"
timeout 60 weir recommend --run run | head -n 1 >head.log || true
[ -z "$(ls -d run/requests-* 2>/dev/null)" ] || fail "requests stay behind"

expect 8 nobody 'no user "user-x"' weir recommend --run run --user user-x
expect 2 early 'no user to ask about' weir recommend --run run --at 5
expect 2 count 'whole number from 1' weir recommend --run run --top 0
expect 2 form 'text, json or csv' weir recommend --run run --format xml
expect 8 norun 'not the folder' weir recommend --run nothing
[ -z "$(ls -d run/requests-* 2>/dev/null)" ] || fail "requests stay behind"

# A worker that is killed ends the job; nothing of it stays behind. (One user a block makes it last.)
weir recommend --run run --set eval.batch_users=1 --top 90 --with-known --format csv --out killed.csv >killed.log 2>&1 &
job=$!
for _ in $(seq 200); do
  worker=""
  ls run/requests-*/answers-* >/dev/null 2>&1 && # it has begun to answer
    worker=$(left_behind | sed -n 's/ weir-worker$//p' | head -n 1)
  [ -z "$worker" ] || break
  sleep 0.02
done
if [ -n "$worker" ] && kill -9 "$worker" 2>/dev/null; then
  status=0
  wait "$job" || status=$?
  # It may have been done by then; if not, it says what happened and leaves nothing.
  [ "$status" -eq 0 ] || grep -q 'killed by signal 9' killed.log || fail "a killed job does not say so: status $status"
  [ "$status" -eq 0 ] || [ ! -e killed.csv ] || fail "a killed job has written lists"
else
  wait "$job" || true
fi
[ -z "$(ls -d run/requests-* 2>/dev/null)" ] || fail "requests stay behind"

# The verb itself killed cannot tidy up: the next one does. What is not its own it leaves alone.
mkdir run/requests-no run/requests-abcdef
weir recommend --run run --set eval.batch_users=1 --top 90 --with-known --format csv --out killed.csv >killed.log 2>&1 &
job=$!
for _ in $(seq 400); do
  ls run/requests-*/answers-* >/dev/null 2>&1 && break
  sleep 0.02
done
if kill -9 "$job" 2>/dev/null; then
  wait "$job" || true
  for _ in $(seq 200); do # the launcher ends once nobody reads it, or when the job is done
    [ -n "$(left_behind)" ] || break
    sleep 0.1
  done
fi
expect 0 after '^user user-2' weir recommend --run run --users users.txt --top 2
[ "$(ls -d run/requests-*)" = "$(printf 'run/requests-abcdef\nrun/requests-no')" ] || fail "a killed verb's requests stay behind: $(ls -d run/requests-*)"
