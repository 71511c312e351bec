#!/usr/bin/env python3
"""inspect_numbers.py WEIR RUN: what `weir inspect`'s verbs say of a run whose checkpoints are bases and deltas is
what numpy computes of the same files, merged here as docs/files/table.md says. Exit status 77: not tried."""
import json
import pathlib
import subprocess
import sys

try:
    import numpy
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

weir, run = sys.argv[1], pathlib.Path(sys.argv[2])


def inspect(*words):
    done = subprocess.run([weir, "inspect", *map(str, words), "--json"], capture_output=True)
    assert done.returncode == 0, (words, done.stderr.decode())
    return json.loads(done.stdout)


def rows_of(folder, name="item"):
    """key -> (value, last_step, count) of a checkpoint and what it builds on."""
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = {}
    if manifest["base"] is not None:
        rows = rows_of(folder.parent / f"step-{manifest['base']:012d}", name)
    for entry in manifest["files"]:
        if not entry["name"].startswith(name + ".ps-"):
            continue
        shard = safetensors.numpy.load_file(folder / entry["name"])
        for key in shard.get("removed", ()):
            rows.pop(int(key), None)
        for i, key in enumerate(shard["keys"]):
            rows[int(key)] = (shard["value"][i].astype("f8"), int(shard["last_step"][i]), int(shard["count"][i]))
    return rows


def near(found, expected):
    return abs(found - expected) <= 1e-9 + 1e-6 * abs(expected)


steps = sorted(int(p.name[5:]) for p in (run / "checkpoints").glob("step-*"))
folders = {step: run / "checkpoints" / f"step-{step:012d}" for step in steps}
last = rows_of(folders[steps[-1]])

listed = inspect("ls", run)["checkpoints"]
assert [entry["step"] for entry in listed] == steps
for entry in listed:
    manifest = json.loads((folders[entry["step"]] / "manifest.json").read_text())
    assert entry["base"] == manifest["base"] and entry["metrics"] == manifest["metrics"], entry
    assert entry["bytes"] == sum(file["size"] for file in manifest["files"])
assert [entry["latest"] for entry in listed] == [False] * (len(steps) - 1) + [True]

info = inspect("info", run)
assert info["step"] == steps[-1] and info["chain"], info
table = inspect("tables", run)["tables"][0]
assert table["name"] == "item" and table["chained"] and table["rows"] >= len(last)

some = sorted(last)[:: max(1, len(last) // 7)]
got = {row["key"]: row for row in inspect("get", run, *some)["rows"]}
for key in some:
    value, last_step, count = last[key]
    row = got[key]
    assert (row["last_step"], row["count"]) == (last_step, count), row
    assert numpy.array_equal(numpy.float32(row["value"]), numpy.float32(value)), key
    assert near(row["norm"], numpy.linalg.norm(value))
missing = subprocess.run([weir, "inspect", "get", str(run), "999999999"], capture_output=True)
assert missing.returncode == 8, missing

stats = inspect("stats", run)
norms = numpy.array([numpy.linalg.norm(value) for value, _, _ in last.values()])
assert stats["rows"] == len(last) and near(stats["norm_sum"], norms.sum())
assert near(stats["norm_squares"], (norms ** 2).sum())
assert stats["updates"] == sum(count for _, _, count in last.values())
assert stats["never_updated"] == sum(count == 0 for _, _, count in last.values())
for name, numbers in (
    ("norms", norms),
    ("ages", numpy.array([steps[-1] - step for _, step, _ in last.values()], "f8")),
    ("counts", numpy.array([count for _, _, count in last.values()], "f8")),
):
    expected = {}
    for number in numbers:
        bucket = 0.0 if number == 0 else 2.0 ** numpy.floor(numpy.log2(number))
        expected[bucket] = expected.get(bucket, 0) + 1
    found = {bucket["from"]: bucket["rows"] for bucket in stats[name]}
    assert found == expected, (name, found, expected)

key = some[len(some) // 2]
for metric in ("cosine", "dot"):
    query = last[key][0]
    scores = {}
    for other, (value, _, _) in last.items():
        if other != key:
            scale = numpy.linalg.norm(value) * numpy.linalg.norm(query) if metric == "cosine" else 1.0
            scores[other] = float(value @ query / scale)
    expected = sorted(scores, key=lambda other: (-scores[other], other))[:7]
    nearest = inspect("top", run, key, "--limit", 7, "--metric", metric)["nearest"]
    assert [entry["key"] for entry in nearest] == expected, (nearest, expected)
    assert all(near(entry["score"], scores[entry["key"]]) for entry in nearest)

first = rows_of(folders[steps[0]])
diff = inspect("diff", folders[steps[0]], folders[steps[-1]])
item = diff["tables"][0]
both = first.keys() & last.keys()
changed = [k for k in both if first[k][1:] != last[k][1:] or not numpy.array_equal(first[k][0], last[k][0])]
assert item["born"] > 0 and item["born"] == len(last.keys() - first.keys()) and item["gone"] == len(first.keys() - last.keys()), item
assert (item["changed"], item["same"]) == (len(changed), len(both) - len(changed)), item
moved = {k: numpy.linalg.norm(last[k][0] - first[k][0]) for k in changed}
assert near(item["norm"], numpy.sqrt(sum(m * m for m in moved.values()))) and near(item["largest"], max(moved.values()))
assert moved[item["largest_key"]] == max(moved.values())
dense = [safetensors.numpy.load_file(folders[step] / "dense.safetensors") for step in (steps[0], steps[-1])]
assert {entry["name"] for entry in diff["dense"]} == set(dense[0])
for entry in diff["dense"]:
    difference = dense[1][entry["name"]].astype("f8") - dense[0][entry["name"]].astype("f8")
    assert near(entry["norm"], numpy.linalg.norm(difference)), entry
assert diff["config"] == {"removed": [], "added": []}
same = inspect("diff", run, run)["tables"][0]
assert (same["born"], same["gone"], same["changed"], same["same"]) == (0, 0, 0, len(last))
print(f"{len(steps)} checkpoints, {len(last)} rows: every number is numpy's")
