#!/usr/bin/env bash
# weir train --trace: every rank's spans nest and ascend, frames that leave come, and the bits of the run are those
# without it.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 240 400
make_config

train plain 2 2
train traced 2 2 --trace 8
grep -q '^timeline  traced/trace.json' traced.log || fail "no word of the timeline"
[ ! -e plain/trace ] && [ ! -e plain/trace.json ] || fail "a timeline that nobody asked for"
digest plain >plain.digest
digest traced >traced.digest
[ -s plain.digest ] && diff plain.digest traced.digest || fail "a run that is watched differs"

cat >check.py <<'PY'
import json, sys
run, first, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
events = json.load(open(f"{run}/trace.json"))
names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
assert names == {1: "ps 0", 2: "ps 1", 3: "worker 0", 4: "worker 1"}, names
threads = {}
for e in events:
    if e["ph"] != "M":
        threads.setdefault((e["pid"], e["tid"]), []).append(e)
assert len(threads) == 8, list(threads)  # main and comm of each
for who, own in threads.items():
    assert all(a["ts"] <= b["ts"] for a, b in zip(own, own[1:])), who
    open_ends = []
    for e in own:
        if e["ph"] == "X":
            end = e["ts"] + e["dur"]
            while open_ends and open_ends[-1] <= e["ts"] + 0.02:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1] + 0.02, (who, e)
            open_ends.append(end)

def spans(pid, name):
    return [e for e in events if e["ph"] == "X" and e["pid"] == pid and e["name"] == name]

window = list(range(first, first + steps))
for pid in (3, 4):
    for name in ("step", "read batch", "send pull", "take rows", "compute", "forward", "loss", "backward", "push",
                 "dense update", "agree"):
        seen = [e["args"]["step"] for e in spans(pid, name)]
        missing = set(window[:-1]) - set(seen) if name in ("read batch", "send pull") else set(window) - set(seen)
        assert len(missing) <= (2 if name in ("read batch", "send pull") else 0), (pid, name, seen)
    assert spans(pid, "send bucket") and spans(pid, "update")
    whole = {e["args"]["step"]: e for e in spans(pid, "step")}
    for e in spans(pid, "backward"):
        step = whole[e["args"]["step"]]
        assert step["ts"] <= e["ts"] and e["ts"] + e["dur"] <= step["ts"] + step["dur"] + 0.02
for pid in (1, 2):
    assert spans(pid, "handle pull") and spans(pid, "handle push") and spans(pid, "apply")
    assert {e["args"]["peer"] for e in spans(pid, "handle pull")} == {3, 4}

# Inside the window every frame has both ends, and comes after it left: one clock.
left = {e["id"]: e for e in events if e["ph"] == "s"}
came = {e["id"]: e for e in events if e["ph"] == "f"}
assert len(left) == sum(e["ph"] == "s" for e in events)
inner = [i for i, e in left.items() if first < e["args"]["step"] < first + steps - 1]
assert len(inner) > 10 * (steps - 2)
for i in inner:
    assert i in came, i
    assert left[i]["ts"] < came[i]["ts"], i
    assert left[i]["args"]["bytes"] == came[i]["args"]["bytes"]
    frm, to = map(int, i.split("/")[-1].split(">"))
    assert left[i]["pid"] == frm and came[i]["pid"] == to
PY
python3 check.py traced 6 8 || fail "the timeline is not as it should be"

# The page, and the table: each rank's parts add up to its step, as the events alone say.
expect 0 report 'traced/report.html' weir report traced
grep -q 'Who waits for whom' traced/report.html || fail "a page without the timeline"
expect 0 table '^worker 1 +sums of dense gradients .* hidden ' weir report traced --timeline
expect 8 none 'has no timeline' weir report plain --timeline
python3 - <<'PY' || fail "the table does not add up"
import json
events = json.load(open("traced/trace.json"))
lines = [l for l in open("table.log").read().splitlines()[2:] if not l.startswith("worker")]
columns = [0.0] * 4
for line in lines:
    for i, value in enumerate(line[12:].split()):
        columns[i] += float(value)
for pid, column in ((3, 2), (4, 3)):
    steps = [e["dur"] for e in events if e["ph"] == "X" and e["pid"] == pid and e["name"] == "step"]
    mean = sum(steps) / len(steps) / 1000
    assert abs(columns[column] - mean) < 0.1 + 0.01 * mean, (pid, columns, mean)
PY

# Resumed with fewer ranks: nothing of the start before is left, and the window is that of this start.
train short 2 2 --trace 4 --set train.max_steps=20
train short 1 1 --trace 4 --resume
python3 - <<'PY' || fail "the timeline of a resumed run"
import json
events = json.load(open("short/trace.json"))
assert {e["pid"] for e in events} == {1, 2}
assert {e["args"]["step"] for e in events if e["name"] == "step"} == {26, 27, 28, 29}
PY
echo "ok"
