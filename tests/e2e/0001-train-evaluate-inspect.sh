#!/usr/bin/env bash
# A user's first hour: data, training with 1 + 2 + 2 processes, evaluation, inspection, report.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config

train run 2 2
[ -f run/checkpoints/latest/manifest.json ] || fail "no checkpoint"
grep -q '"kind":"end".*"finished"' run/metrics.jsonl || fail "metrics.jsonl has no end"
grep -q '"kind":"eval"' run/metrics.jsonl || fail "metrics.jsonl has no evaluation"

expect 0 eval '"hr@10"' weir eval --run run --json
expect 0 inspect '"item"' weir inspect run --json
python3 -c 'import json,sys; json.load(open("inspect.log"))' || fail "inspect --json is not JSON"
expect 0 verify 'ok' weir inspect run --verify
python=$WEIR_SOURCE/.venv/bin/python
[ -x "$python" ] || python=python3
got=0
"$python" "$WEIR_SOURCE/tests/interop/checkpoint_numbers.py" "$WEIR_BIN/weir" run >numbers.log 2>&1 || got=$?
[ "$got" -eq 0 ] || [ "$got" -eq 77 ] || fail "another reader sees other numbers: $(cat numbers.log)"
cat numbers.log
expect 0 report 'report.html' weir report run
grep -q '<svg' run/report.html || fail "the report has no curve"
! grep -Eq '(src|href)="https?:' run/report.html || fail "the report opens the network"
expect 0 popularity '"ndcg@10"' weir baseline popularity --data data --json

# Evaluation repeats what training measured last.
python3 - <<'PY' || fail "eval differs from the last evaluation of training"
import json
last = [r for r in map(json.loads, open("run/metrics.jsonl")) if r["kind"] == "eval" and r["split"] == "test"][-1]
now = json.load(open("eval.log"))["splits"]["test"]
for name in ("users", "hr@10", "ndcg@10", "mrr"):
    assert abs(last[name] - now[name]) < 1e-9, (name, last[name], now[name])
PY
# Python reads every file.
got=0
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/e2e/read_run.py" run data >python.log 2>&1 || got=$?
case $got in
  0) cat python.log ;;
  77) cat python.log ;;
  *) cat python.log; fail "Python does not read what weir wrote" ;;
esac
echo "ok"
