#!/usr/bin/env bash
# Checkpoints written anew: for other numbers of servers, with the same bytes and the same training after; with rows
# from elsewhere; and removed by number.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 200 1500
make_config

train run 2 2 --set train.max_steps=24 --set train.checkpoint_every=6 --set train.checkpoint_full_every=9 \
  --set train.keep_checkpoints=9
grep -q '"base": [0-9]' run/checkpoints/latest/manifest.json || fail "the last checkpoint builds on none"
expect 0 to3 'full3: step 24, [0-9]* rows' weir inspect reshard run --servers 3 --out full3
expect 0 to1 '"step": 24' weir inspect reshard full3 --servers 1 --out full1 --json
expect 0 back 'full2' weir inspect reshard full1 --servers 2 --out full2
expect 0 direct 'direct' weir inspect reshard run --servers 2 --out direct
for file in full2/checkpoints/latest/*.safetensors; do
  cmp "$file" "direct/checkpoints/latest/${file##*/}" || fail "$file differs after 3 and 1 servers"
done
digest direct >run.digest
for other in full3 full1 full2; do
  digest "$other" >"$other.digest"
  diff run.digest "$other.digest" || fail "$other holds another state"
  expect 0 verify "all as it was written" weir verify "$other"
done

# What servers write is what resharding writes; and training goes on with the same bits.
cp -r run same
train same 2 2 --resume --set train.max_steps=30 --set train.checkpoint_full_every=1
train full3 3 2 --resume --set train.max_steps=30
digest same >same.digest
digest full3 >full3.digest
diff same.digest full3.digest || fail "training from a resharded checkpoint differs"
expect 0 to2 'by2' weir inspect reshard full3 --servers 2 --out by2
for file in same/checkpoints/latest/item.*; do
  cmp "$file" "by2/checkpoints/latest/${file##*/}" || fail "the servers' $file is not what resharding writes"
done

expect 7 exists 'has a checkpoint of step 24' weir inspect reshard run --servers 3 --out full1
expect 2 none 'servers' weir inspect reshard run --out x
expect 2 many 'servers' weir inspect reshard run --servers 16385 --out x

got=0
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/interop/import_rows.py" "$WEIR_BIN/weir" full2 imported >import.log 2>&1 || got=$?
[ "$got" -eq 0 ] || [ "$got" -eq 77 ] || fail "import: $(cat import.log)"
cat import.log
if [ "$got" -eq 0 ]; then
  expect 0 verify "all as it was written" weir verify imported
  train imported 2 2 --resume --set train.max_steps=30
  grep -q '"step": 30' imported/checkpoints/latest/manifest.json || fail "training did not go on from imported rows"
fi

# Of five checkpoints, each on the one before, only those that nothing needs may go.
expect 0 dry 'would remove step 24' weir inspect prune same --keep 1 --dry-run
[ "$(ls -d same/checkpoints/step-* | wc -l)" -gt 2 ] || fail "a dry run removed something"
expect 0 prune 'removed step 24' weir inspect prune same --keep 1
expect 0 ls '30  full .*latest' weir inspect ls same
[ "$(readlink same/checkpoints/best)" = step-000000000030 ] || [ -d same/checkpoints/best/ ] || fail "best is gone"
expect 0 chain '"steps": \[\]' weir inspect prune run --keep 1 --json
expect 0 kept "all as it was written" weir verify run

# No damage is copied.
shard=$(ls full1/checkpoints/latest/item.ps-0000-of-*)
printf '\377\377\377\377' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc status=none
expect 4 damaged 'is damaged' weir inspect reshard full1 --servers 2 --out laundered
[ ! -e laundered/checkpoints/latest ] || fail "damage was given new checksums"
echo ok
