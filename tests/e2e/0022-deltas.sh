#!/usr/bin/env bash
# Checkpoints that build on others: a run that goes on from one, with another number of servers, ends with the bits
# of the run that never stopped; weir verify reads the chain and names what is damaged.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 200 150
make_config

train a 2 2 --set train.checkpoint_every=6
digest a >a.digest
train b 2 2 --set train.checkpoint_every=6 --set train.checkpoint_full_every=100 --set train.max_steps=30
grep -q '"base": [0-9]' b/checkpoints/latest/manifest.json || fail "the last checkpoint builds on none"
expect 0 verify "all as it was written" weir verify b
python3 - <<'PY'
import glob, json, os
steps = {os.path.basename(os.path.dirname(p)): json.load(open(p)) for p in glob.glob("b/checkpoints/step-*/manifest.json")}
for name, manifest in steps.items():
    if manifest["base"] is not None:
        assert f"step-{manifest['base']:012d}" in steps, f"{name} lost its base"
assert len(steps) > 3, "keep_checkpoints removed what others build on"
PY
# Folded, the newest is what a run that saves all would have saved, and stands alone.
train whole 2 2 --set train.checkpoint_every=6 --set train.max_steps=30
cp -r b folded
expect 0 fold "folded: step 30, " weir inspect fold folded
for shard in whole/checkpoints/latest/item*.safetensors; do
  cmp "$shard" "folded/${shard#*/}" || fail "a folded checkpoint differs from a full one"
done
expect 0 twice "step 30 builds on none" weir inspect fold folded
expect 0 apart "apart: step 30, " weir inspect fold b --out apart
cmp folded/checkpoints/latest/item.ps-0000-of-0002.safetensors apart/checkpoints/latest/item.ps-0000-of-0002.safetensors
rm -rf folded/checkpoints/step-00000000000* folded/checkpoints/step-00000000001* folded/checkpoints/step-000000000024
train folded 1 2 --resume --set train.checkpoint_full_every=1
digest folded >folded.digest
diff a.digest folded.digest || fail "a run resumed from a folded checkpoint differs"
expect 8 none "has no checkpoint" weir inspect fold data

train b 3 2 --resume --set train.checkpoint_full_every=1
digest b >b.digest
diff a.digest b.digest || fail "a run resumed from a base and deltas differs from one that never stopped"

shard=$(ls b/checkpoints/latest/item.ps-0001-of-*.safetensors)
size=$(stat -c %s "$shard")
printf '\377\377\377\377' | dd of="$shard" bs=1 seek=$((size - 400)) conv=notrunc status=none
expect 4 damaged "item.ps-0001-of-0003.safetensors: bytes .* of tensor .* are damaged: rows 0 to" weir verify b
expect 4 json '"first_row": 0' weir verify --json b
echo ok
