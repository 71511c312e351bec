"""scrape.py URL RUN PS WORKERS: the page of a running job is well formed and agrees with what else is known of it."""
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

from exposition import parse

url, run, ps, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def scrape():
    time.sleep(0.8)  # heartbeats come every 0.2 s, counters every 0.5 s, pages every 0.25 s
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers
        return parse(answer.read().decode())


def one(page, name):
    ((labels, value),) = page["samples"][name]
    return value


def ranks(page, name):
    return {int(labels["rank"]): value for labels, value in page["samples"][name]}


first, second = scrape(), scrape()
everyone, servers = set(range(1, ps + workers + 1)), set(range(1, ps + 1))
assert first["types"] == second["types"]
for name, kind in first["types"].items():
    if kind == "counter" and name in first["samples"]:
        now = {json.dumps(labels): value for labels, value in second["samples"][name]}
        for labels, value in first["samples"][name]:
            assert now[json.dumps(labels)] >= value, name
assert set(ranks(second, "weir_rank_up").values()) == {1.0}
for name in ("weir_rank_up", "weir_rank_step", "weir_rank_phase", "weir_rank_info", "weir_resident_bytes",
             "weir_send_queue_frames", "weir_receive_queue_frames"):
    assert set(ranks(second, name)) == everyone, name
for name in second["types"]:
    if name.startswith("weir_ps_"):
        assert set(ranks(second, name)) == servers, name
    if name.startswith("weir_worker_"):
        assert set(ranks(second, name)) == everyone - servers, name

# The page of the documentation names them all, and no other.
with open(os.path.join(os.environ["WEIR_SOURCE"], "docs", "operations.md")) as document:
    told = dict(re.findall(r"^\| `(weir_\w+)` \| (counter|gauge) \|", document.read(), re.MULTILINE))
assert told == second["types"], set(told.items()) ^ set(second["types"].items())

# So does the Grafana dashboard, and nothing else.
with open(os.path.join(os.environ["WEIR_SOURCE"], "ops", "grafana-dashboard.json")) as document:
    panels = json.load(document)["panels"]
asked = {name for panel in panels for target in panel["targets"] for name in re.findall(r"\bweir_\w+", target["expr"])}
assert len(asked) > 20 and asked <= set(second["types"]), asked - set(second["types"])
for panel in panels:
    for target in panel["targets"]:
        for call, name in re.findall(r"\b(rate|increase|deriv)\((weir_\w+)", target["expr"]):
            assert (second["types"][name] == "counter") == (call != "deriv"), target["expr"]

# Steps go on, and the counters of a step with them.
steps = {rank: value - ranks(first, "weir_worker_steps_total")[rank]
         for rank, value in ranks(second, "weir_worker_steps_total").items()}
assert all(value > 0 for value in steps.values()), steps
for name in ("tokens_total", "keys_total", "compute_seconds_total", "pulled_bytes_total", "pushed_bytes_total"):
    before, after = (ranks(page, "weir_worker_" + name) for page in (first, second))
    assert all(after[rank] > before[rank] for rank in before), name
for name in ("pulls_total", "keys_pulled_total", "rows_updated_total"):
    before, after = (ranks(page, "weir_ps_" + name) for page in (first, second))
    assert all(after[rank] > before[rank] for rank in before), name

# The time of a worker is no more than has passed; what one side sends the other has seen.
for rank in everyone - servers:
    spent = sum(ranks(second, f"weir_worker_{what}_seconds_total")[rank]
                for what in ("compute", "pull_wait", "push_wait", "reduce_wait"))
    assert 0 < spent <= one(second, "weir_uptime_seconds"), spent

# Rows and memory are those that the control socket tells; a rank is the process that it says.
status = json.loads(subprocess.run(["weir", "ctl", "--run", run, "status", "--json"], check=True,
                                   capture_output=True).stdout)
third = scrape()
for row in status["ranks"]:
    rank = row["rank"]
    (info,) = [labels for labels, _ in third["samples"]["weir_rank_info"] if int(labels["rank"]) == rank]
    assert info["pid"] == str(row["pid"]) and info["host"] == row["host"] and info["role"] == row["role"]
    with open(f"/proc/{row['pid']}/statm") as statm:
        resident = int(statm.read().split()[1]) * 4096
    assert 0.5 < ranks(third, "weir_resident_bytes")[rank] / resident < 2.0, rank
    if rank in servers:
        assert ranks(third, "weir_ps_rows")[rank] + ranks(third, "weir_ps_cold_rows")[rank] == row["rows"]
        assert ranks(third, "weir_ps_rows_born_total")[rank] >= row["rows"] > 0
assert one(third, "weir_step") >= status["step"] > 0
assert one(third, "weir_checkpoints_total") == 1
assert one(third, "weir_checkpoint_step") == status["last_checkpoint_step"]
assert one(third, "weir_checkpoint_bytes") > 1000
assert one(third, "weir_control_refused_total") == 0
