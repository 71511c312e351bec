#!/usr/bin/env bash
# Checkpoints written while training goes on are those that training waited for, byte for byte: full ones and deltas,
# whatever is evicted, expires or lies on disk meanwhile; a run goes on from one.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 300 2000
make_config

# both NAME PS WORKERS [args...]: the same run twice. All shards and dense files must be equal, but for the seconds that
# the run had taken, which dense files say.
both() {
  local name=$1 ps=$2 workers=$3
  shift 3
  set -- --set train.checkpoint_every=3 --set train.keep_checkpoints=100 --set train.max_steps=30 "$@"
  train "$name-waits" "$ps" "$workers" --set train.checkpoint_in_background=false "$@"
  train "$name" "$ps" "$workers" "$@"
  python3 - "$name-waits" "$name" <<'PY' || fail "$name: other bytes than those of the run that waited"
import glob, json, sys
def read(path):
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"].pop("seconds", None)
    return header, data[8 + size :]
paths = [p for kind in ("item", "user", "dense") for p in glob.glob(sys.argv[1] + f"/checkpoints/step-*/{kind}*.safetensors")]
assert len(paths) >= 20, len(paths)
for path in paths:
    assert read(path) == read(path.replace(sys.argv[1], sys.argv[2], 1)), path
PY
  expect 0 "$name-verify" "all as it was written" weir verify "$name"
}

both plain 2 2
both deltas 1 2 --set train.checkpoint_full_every=4 --set sparse.ttl=9
both tables 1 1 --set model.user_embedding=true --set sparse.admission=frequency --set sparse.admission_threshold=2
both cold 1 2 --set sparse.memory_mib=20 --set sparse.cold_folder="$scratch/cold" --set model.embedding_dim=16

# Steps went by between a checkpoint and its publication, or it was published at the next step at the latest.
train ssp 2 2 --set train.consistency=ssp --set train.staleness=2 --set train.checkpoint_every=3
train asp 2 2 --set train.consistency=asp --set train.checkpoint_every=3

# A run resumed from one of them ends with the bits of the run that never stopped.
digest plain >plain.digest
train again 1 2 --set train.checkpoint_every=3 --set train.max_steps=15
train again 2 2 --resume --set train.max_steps=30
digest again >again.digest
diff plain.digest again.digest || fail "a run resumed from a background checkpoint differs"
echo ok
