#!/usr/bin/env bash
# An array trains one run for each line of settings; one table holds what came of them, the best first. A
# login node meanwhile sees a job: weir ctl, weir top and the page of metrics.
set -eu
. "${WEIR_SOURCE:?}/tests/slurm/cluster.sh"
make_data
make_config
start_slurm
export WEIR_BIN
export OMPI_MCA_btl=self,tcp # the nodes are one machine
printf '%s\n' 'train.seed=1 dense.learning_rate=0.01' 'train.seed=2' 'train.seed=no' >lines

array=$(sbatch --parsable --array=1-3 --ntasks=3 --output=weir-%A_%a.log "$WEIR_SOURCE/slurm/sweep.sbatch" config.yaml runs lines)
for task in 1 2; do job_ends "${array}_$task" COMPLETED; done
job_ends "${array}_3" FAILED
table() { "$WEIR_PYTHON" "$WEIR_SOURCE/slurm/weir-sweep-table" runs "$@"; }
table --csv >table.csv
cat table.csv
"$WEIR_PYTHON" - <<'PY'
import csv, json
rows = list(csv.DictReader(open("table.csv")))
assert [r["run"] for r in rows][2] == "3" and rows[2]["state"] == "waiting", rows
assert {r["run"]: (r["train.seed"], r["dense.learning_rate"]) for r in rows} == {
    "1": ("1", "0.01"), "2": ("2", ""), "3": ("no", "")}, rows
for row in rows[:2]:
    said = [json.loads(line) for line in open(f"runs/{row['run']}/metrics.jsonl")]
    last = [s for s in said if s["kind"] == "eval" and s["split"] == "test"][-1]
    assert row["test/ndcg@10"] == f"{last['ndcg@10']:.6g}" and row["state"] == "finished", (row, last)
assert float(rows[0]["test/ndcg@10"]) >= float(rows[1]["test/ndcg@10"]), rows
PY
[ "$(table | awk 'NR == 2 { print $1 }')" = "$(sed -n '2s/,.*//p' table.csv)" ] || fail "another order: $(table)"
if table --metric test/no 2>metric.log; then fail "a metric that is not there"; fi
grep -q 'there are: .*test/mrr' metric.log || fail "$(cat metric.log)"

# From the login node, by nothing but the run's folder.
job=$(sbatch --parsable --nodes=3 --ntasks-per-node=2 --output=weir-%j.log "$WEIR_SOURCE/slurm/many-nodes.sbatch" \
  config.yaml seen --set train.epochs=100000 --set eval.every_epochs=0 --set cluster.metrics_address=0.0.0.0:0)
job_steps "$job" seen 10
expect 0 status 'worker' weir ctl --run seen status
expect 0 top '"workers"|worker' weir top --run seen --once --json --interval 1
"$WEIR_PYTHON" - <<'PY'
import json, urllib.request
url = json.load(open("seen/control.json"))["metrics"].replace("0.0.0.0", "127.0.0.1")
page = urllib.request.urlopen(url, timeout=20).read().decode()
up = [line for line in page.splitlines() if line.startswith("weir_rank_up{")]
assert len(up) == 5 and all(line.endswith(" 1") for line in up), up
print(url)
PY
expect 0 checkpoint '' weir ctl --run seen checkpoint
expect 0 stop '' weir ctl --run seen stop
job_ends "$job" FAILED # as Slurm calls 12; and it is not put back into the queue
[ "$(job_field "$job" ExitCode)" = 12:0 ] || fail "it ended with $(job_field "$job" ExitCode)"
expect 8 gone 'no job' weir ctl --run seen status
echo "ok"
