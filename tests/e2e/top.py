"""top.py URL RUN: weir top agrees with the page of metrics, draws in a terminal and leaves it as it was."""
import json
import os
import pty
import select
import subprocess
import sys
import time
import urllib.request

from exposition import parse

url, run = sys.argv[1], sys.argv[2]
top = json.loads(subprocess.run(["weir", "top", "--run", run, "--json", "--interval", "1.5"], check=True,
                                capture_output=True).stdout)
page = parse(urllib.request.urlopen(url, timeout=20).read().decode())
for row in top["ranks"]:
    for name, value in row["metrics"].items():
        (now,) = [v for labels, v in page["samples"][name] if int(labels["rank"]) == row["rank"]]
        if page["types"][name] == "counter":
            assert now >= value, (name, now, value)
    told = {name for name, samples in page["samples"].items()
            if name in page["types"] and not name.startswith("weir_rank_")
            and any(labels.get("rank") == str(row["rank"]) for labels, _ in samples)}
    assert told == set(row["metrics"]), told ^ set(row["metrics"])
    assert all(value >= 0 for value in row["per_second"].values())
    if row["role"] == "worker":
        assert row["steps_per_second"] > 0 and row["per_second"]["weir_worker_tokens_total"] > 0
assert top["steps_per_second"] > 0

child, terminal = pty.fork()
if child == 0:
    os.execvp("weir", ["weir", "top", "--run", run, "--interval", "0.3"])
shown = b""
deadline = time.monotonic() + 60
while shown.count(b"\033[H") < 3 and time.monotonic() < deadline:
    if select.select([terminal], [], [], 1)[0]:
        shown += os.read(terminal, 65536)
os.write(terminal, b"q")
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    shown += piece
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert shown.count(b"\033[H") >= 3 and b"tokens/s" in shown and b"server" in shown, shown
assert shown.index(b"\033[?1049h") < shown.index(b"\033[H") < shown.index(b"\033[?1049l"), shown
assert shown.rstrip().endswith(b"\033[?25h\033[?1049l"), shown[-40:]
