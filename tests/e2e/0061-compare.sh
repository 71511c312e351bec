#!/usr/bin/env bash
# weir compare: trains what is not trained yet, goes on with what was stopped, takes runs as they are; the
# table's numbers are those that the runs wrote.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config
sed 's/^model: {/model: {kind: gru4rec, /; s/epochs: 6/epochs: 3/' config.yaml >gru.yaml
sed 's/epochs: 6/epochs: 3/' config.yaml >hstu.yaml

# The second one was stopped half way.
timeout -k 5 300 weir train --config hstu.yaml --run all/hstu --ps 1 --workers 1 --set train.max_steps=3 >stopped.log 2>&1 </dev/null ||
  fail "stopped: $(tail -n 20 stopped.log)"
sed -i '/"kind": *"end"/d' all/hstu/metrics.jsonl
expect 0 first 'training gru' weir compare gru.yaml hstu.yaml --out all --ps 1 --workers 1
grep -q 'training hstu' first.log || fail "what was stopped did not go on"
for file in compare.html compare.md compare.json; do
  [ -s all/$file ] || fail "no $file"
done

cat >check.py <<'PY'
import json, sys
runs = json.load(open("all/compare.json"))["runs"]
assert [r["name"] for r in runs] == sys.argv[1:], runs
table = open("all/compare.md").read()
page = open("all/compare.html").read()
assert page.count("<figure") == 3 and "<script" not in page
for run in runs:
    lines = [json.loads(l) for l in open(run["run"] + "/metrics.jsonl")]
    evals = [l for l in lines if l["kind"] == "eval" and l["split"] == "test"]
    assert run["result"]["step"] == evals[-1]["step"], run["result"]
    for title, key in (("HR@10", "hr@10"), ("NDCG@10", "ndcg@10"), ("MRR", "mrr")):
        assert abs(run["result"][title] - evals[-1][key]) < 1e-6
        assert "%.4f" % evals[-1][key] in table and "%.4f" % evals[-1][key] in page
    assert len(run["test"]) == len(evals) and run["finished"]
    assert run["kind"] == ("gru4rec" if run["name"] == "gru" else "hstu"), run["kind"]
PY
$WEIR_PYTHON check.py gru hstu || fail "the table is not what the runs wrote"

expect 0 again 'compare.html' weir compare hstu.yaml all/gru --out all
! grep -q '^training' again.log || fail "a run that had ended was trained again"
$WEIR_PYTHON check.py hstu gru || fail "a run's folder is not taken as it is"
expect 2 twice 'two of them are called gru' weir compare gru.yaml all/gru --out all
expect 2 nothing 'CONFIG is missing' weir compare --out all

# A signal to it alone saves the run that is being trained; the same command goes on, also from a run that has saved nothing.
long="--set train.epochs=100000 --set train.log_every=1 --set eval.every_epochs=0"
weir compare hstu.yaml --out cut --ps 1 --workers 1 $long >cut.log 2>&1 </dev/null &
pid=$!
for _ in $(seq 600); do ! grep -q 'tokens/s' cut.log || break; sleep 0.05; done
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
pid=
[ "$status" -eq 12 ] && grep -q 'stopped on request' cut.log || fail "stopped: status $status"
[ -f cut/hstu/checkpoints/latest/manifest.json ] || fail "what was stopped did not save"
rm -r cut/hstu/checkpoints
expect 0 resumed 'compare.html' weir compare hstu.yaml --out cut --ps 1 --workers 1
! weir compare absent.yaml --out all >absent.log 2>&1 || fail "a file that is not there"
echo "ok"
