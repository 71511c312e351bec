#!/usr/bin/env bash
# Jobs of every kind of encoder: they learn; any number of servers and threads gives the same bits; a run
# that was resumed ends as one that was not; a checkpoint of another kind is refused.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
evaluation='import json,sys
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
losses = [l["loss"] for l in lines if l["kind"] == "train"]
last = [l for l in lines if l["kind"] == "eval"][-1]
assert losses[-1] < 0.9 * losses[0], losses
assert last["hr@50"] > 0.5, last # of 150 items
'
for kind in ${KINDS:-sasrec gru4rec bert4rec softmax}; do
  key=model.kind=$kind
  [ $kind != softmax ] || key=model.attention=softmax # hstu, weighing otherwise
  train $kind-a 1 2 --set $key --set train.threads=2
  $WEIR_PYTHON -c "$evaluation" $kind-a || fail "$kind does not learn"
  train $kind-b 2 2 --set $key --set train.max_steps=11
  train $kind-b 3 2 --set $key --resume
  digest $kind-a >a.digest
  digest $kind-b >b.digest
  [ -s a.digest ] || fail "nothing to compare"
  diff a.digest b.digest || fail "$kind: other servers, threads and a stop give another result"
  expect 2 $kind-kind 'another model' weir train --config config.yaml --run $kind-a --ps 1 --workers 1 --resume
done
echo "ok"
