#!/usr/bin/env bash
# Tables that do not keep every row: what a job trains does not depend on the number of servers, on a resume, nor,
# with a cold folder, on how much memory the rows may take.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 300 130000
make_config
# Narrow rows and few shared negatives: a step touches a small part of the table.
base="--set model.embedding_dim=8 --set loss.sharing=batch --set loss.negatives=16384 --set train.epochs=3
  --set eval.every_epochs=0 --set sparse.optimizer=rowwise_adagrad --set sparse.learning_rate=0.05"
budget="--set sparse.memory_mib=7" # some 70,000 rows, of some 105,000

same() { # same RUN RUN: bit for bit the same state
  digest "$1" >"$1.digest"
  digest "$2" >"$2.digest"
  [ -s "$1.digest" ] || fail "$1: nothing to compare"
  diff "$1.digest" "$2.digest" || fail "$2 differs from $1"
}
rows() { # rows RUN: of the item table in the last checkpoint
  weir inspect "$1" --json >"$1.json"
  python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["tables"][0]["rows"])' "$1.json"
}

train all 1 2 $base
all=$(rows all)
[ "$all" -gt 90000 ] || fail "only $all rows were born: the budget would not bind"

# On disk: nothing is lost, whatever the servers; a resume fills memory and disk again.
for servers in 1 3; do
  train "cold$servers" $servers 2 $base $budget --set sparse.cold_folder="$scratch/disk/cold$servers"
  same all "cold$servers"
  [ -z "$(ls -A "$scratch/disk/cold$servers" 2>/dev/null)" ] || fail "cold rows are left behind on disk"
done
train again 2 2 $base $budget --set sparse.cold_folder="$scratch/disk/again" --set train.max_steps=15
train again 1 2 $base $budget --set sparse.cold_folder="$scratch/disk/again" --resume
same all again

# Evicted and forgotten: memory holds, and the same rows go on any number of servers and after a resume.
for policy in lru lfu; do
  train "$policy-1" 1 2 $base $budget --set sparse.eviction=$policy
  train "$policy-3" 3 2 $base $budget --set sparse.eviction=$policy --set train.pull_ahead=3
  same "$policy-1" "$policy-3"
  kept=$(rows "$policy-1")
  [ "$kept" -lt $((all * 8 / 10)) ] || fail "$policy: $kept of $all rows are kept: nothing was evicted"
done
cmp -s lru-1.digest lfu-1.digest && fail "both policies evict the same rows"
train resumed 2 2 $base $budget --set train.max_steps=15
train resumed 1 2 $base $budget --resume
same lru-1 resumed

# Forgotten by age; admitted by chance, or when seen often enough.
variant() { # variant NAME [settings...]
  local name=$1
  shift
  train "$name-1" 1 2 $base "$@"
  train "$name-2" 2 2 $base "$@" --set train.pull_ahead=2 --set train.max_steps=15
  train "$name-2" 3 2 $base "$@" --resume
  same "$name-1" "$name-2"
  kept=$(rows "$name-1")
  [ "$kept" -gt 100 ] && [ "$kept" -lt $((all * 9 / 10)) ] || fail "$name: $kept of $all rows are kept"
}
variant ttl --set sparse.ttl=6
variant chance --set sparse.admission=probability --set sparse.admission_probability=0.2
variant often --set sparse.admission=frequency --set sparse.admission_threshold=3 --set sparse.admission_window=20

# What cannot be.
expect 2 small 'fewer than the 65536' weir train --config config.yaml --run small $base --set sparse.memory_mib=1
expect 2 nowhere 'memory_mib' weir train --config config.yaml --run nowhere $base --set sparse.cold_folder=/tmp
expect 2 counters 'power of two' weir train --config config.yaml --run counters $base --set sparse.admission_counters=100
mkdir -p disk/foreign/item.ps-0000
echo mine >disk/foreign/item.ps-0000/letter
got=0
timeout -k 5 180 weir train --config config.yaml --run foreign $base $budget \
  --set sparse.cold_folder="$scratch/disk/foreign" >foreign.log 2>&1 </dev/null || got=$?
[ "$got" -ne 0 ] || fail "a folder with foreign files was taken"
[ "$(cat disk/foreign/item.ps-0000/letter)" = mine ] || fail "a foreign file is gone"
echo "ok"
