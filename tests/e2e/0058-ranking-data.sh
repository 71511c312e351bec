#!/usr/bin/env bash
# Data for ranking: planted actions are learned, but not beyond what was planted; what cannot be is refused.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"

weir synth --out ranking --users 800 --items 400 --clusters 16 --events-mean 40 --actions --json >synth.json
weir baseline logistic --data ranking --json >logistic.json
weir baseline logistic --data ranking --json >again.json
weir baseline rates --data ranking --json >rates.json
cmp logistic.json again.json || fail "logistic regression is not the same twice"
python3 - <<'PY' || fail "the baselines learned nothing, or too much"
import json
best, logistic, rates = (json.load(open(f"{name}.json")) for name in ("synth", "logistic", "rates"))
assert logistic["train_events"] + logistic["test_events"] == best["events"]
tests = logistic["test_events"]
assert 0.09 < tests / best["events"] < 0.11, tests
for task in ("click",):
    planted, learned, popular = (said[task] for said in (best["best"], logistic["tasks"], rates["tasks"]))
    assert planted["ne"] + 0.02 < learned["ne"] < popular["ne"] < 1.0, (planted, learned, popular)
    assert 0.55 < popular["auc"] < learned["auc"] < planted["auc"], (planted, learned, popular)
PY
expect 0 task 'like' weir baseline rates --data ranking --task like
grep -q click task.log && fail "--task shows others too"
expect 2 no-task 'no action dislike' weir baseline rates --data ranking --task dislike
expect 2 rate 'rate -1' weir baseline logistic --data ranking --rate -1
expect 2 split 'to train on' weir baseline rates --data ranking --test-from 0
weir synth --out plain --users 50 >plain.log
expect 2 plain 'no actions to predict' weir baseline rates --data plain
[ ! -e plain/features.safetensors ] || fail "features where there are none"

# The same log as before, with actions beside it.
weir synth --out same --users 800 --items 400 --clusters 16 --events-mean 40 >same.log
python3 - <<'PY' || fail "actions changed the events"
import json, struct
def read(folder):
    content = open(f"{folder}/events.safetensors", "rb").read()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    part = lambda name: content[8 + size + header[name]["data_offsets"][0]:8 + size + header[name]["data_offsets"][1]]
    return [part(name) for name in ("offsets", "items", "times", "actions")]
assert read("ranking") == read("same")
PY

# A schema, CSV from a pipe, bad lines by number.
cat >schema.yaml <<'YAML'
log: {path: "-", user: who, item: what, time: at}
actions: {good: {column: stars, at_least: 4}}
context: {place: place}
YAML
printf 'who,what,at,stars,place\nann,x,1,5,home\nbob,y,2,many,home\nbob,x,3,,\n' |
  weir prepare tables --schema schema.yaml --out mine >mine.log 2>mine.err || fail "$(cat mine.err)"
grep -q 'standard input:3: an action is no flag' mine.err || fail "no line of the bad action: $(cat mine.err)"
grep -q 'good: 1, 50%' mine.log || fail "$(cat mine.log)"
sed -i 's/path: "-"/path: log.csv/' schema.yaml
printf 'who,what,at,stars,place\nbob,y,2,many,home\n' >log.csv
expect 2 strict 'log.csv:2: an action is no flag' weir prepare tables --schema schema.yaml --out strict --strict
sed -i 's/column: stars/column: starts/' schema.yaml
expect 2 column 'did you mean stars' weir prepare tables --schema schema.yaml --out none
[ ! -e none ] || fail "a refused schema left a folder"
