#!/usr/bin/env bash
# train.activation_mib bounds what a worker keeps of a batch and changes no bit while layers are recomputed; with
# users in groups the loss is the same to rounding. A history of 8,192 events trains, is saved and evaluated.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 200 300
make_config
same() { # same RUN RUN: bit for bit the same state
  digest "$1" >"$1.digest"
  digest "$2" >"$2.digest"
  [ -s "$1.digest" ] || fail "$1: nothing to compare"
  diff "$1.digest" "$2.digest" || fail "$2 differs from $1"
}

# A layer kept takes 28 D + 8 bytes a token, a step 48 D + 4: of 12 layers at D 16 and about 600 tokens, 3.8 MB. Two
# MiB keep some layers.
base="--set model.blocks=12"
train all 2 1 $base
train recomputed 1 1 $base --set train.activation_mib=2
same all recomputed

# Batches of about 4,500 tokens: not even one layer fits in a MiB; users go in groups.
train whole 1 1 $base --set train.batch_users=200 --set train.epochs=30 --set train.log_every=1
train groups 2 1 $base --set train.batch_users=200 --set train.epochs=30 --set train.log_every=1 --set train.activation_mib=1
train again 1 1 $base --set train.batch_users=200 --set train.epochs=30 --set train.log_every=1 --set train.activation_mib=1
train workers 1 2 $base --set train.batch_users=200 --set train.epochs=30 --set train.log_every=1 --set train.activation_mib=1
same groups again
digest whole >whole.digest
! cmp -s whole.digest groups.digest || fail "one MiB made no groups of users"
for run in groups workers; do # each worker cuts its own part
  python3 - whole $run <<'PY' || fail "$run: the loss in groups is another"
import json, sys
a, b = ([r["loss"] for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "train"] for run in sys.argv[1:])
assert len(a) == len(b) == 30, (len(a), len(b))
for x, y in list(zip(a, b))[:5]: # rounding grows from step to step
    assert abs(x - y) < 1e-3 * abs(x), (x, y)
assert sum(b[-5:]) < sum(b[:5])
PY
done

# Two users of 8,200 events and more, beside short ones.
python3 - >long.csv <<'PY'
print("user,item,time")
for user, events in enumerate([8200, 40, 8300, 5, 60]):
    for i in range(events):
        print(f"{user + 1},{1 + (i * i + 7 * user) % 499},{1000000000 + 60 * i * (1 + i % 3 // 2)}")
PY
weir prepare csv --file long.csv --out long --user=user --item=item --time=time >prepare.log 2>&1 || fail "prepare: $(cat prepare.log)"
long="--set data.path=long --set model.max_sequence_length=8192 --set model.embedding_dim=8 --set model.dqk=8
  --set model.dv=8 --set model.blocks=4 --set loss.sharing=batch --set train.max_steps=2 --set train.log_every=1"
train long9 1 1 $long --set train.activation_mib=9 # three layers of a history of 8,192 events
train long6 2 1 $long --set train.activation_mib=6 # one
same long9 long6
! grep -q 'more than train.activation_mib' long6.log || fail "six MiB are enough for 8,192 events"
train long1 1 1 $long --set train.activation_mib=1 # too little for one: it is said, and trained all the same
same long9 long1
grep -q 'more than train.activation_mib' long1.log || fail "no word of a budget that is not kept"
grep -q ndcg long6/metrics.jsonl || fail "not evaluated"
echo "ok"
