#!/usr/bin/env bash
# The verbs of weir inspect on a run of bases and deltas: another reader computes the same numbers.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 200 6000
make_config
train run 2 2 --set train.checkpoint_every=6 --set train.checkpoint_full_every=4 --set train.max_steps=30 \
  --set train.keep_checkpoints=9 --set loss.negatives=4
got=0
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/interop/inspect_numbers.py" "$WEIR_BIN/weir" run >numbers.log 2>&1 || got=$?
[ "$got" -eq 0 ] || [ "$got" -eq 77 ] || fail "another reader sees other numbers: $(cat numbers.log)"
cat numbers.log

got=0
"$WEIR_PYTHON" "$WEIR_SOURCE/tests/interop/export_rows.py" "$WEIR_BIN/weir" run \
  "$WEIR_SOURCE/docs/examples/read_checkpoint.py" >export.log 2>&1 || got=$?
[ "$got" -eq 0 ] || [ "$got" -eq 77 ] || fail "export: $(cat export.log)"
cat export.log
if [ "$got" -eq 0 ]; then
  expect 0 example 'dense position_embedding' "$WEIR_PYTHON" "$WEIR_SOURCE/docs/examples/read_checkpoint.py" run
fi

# For a person.
expect 0 ls 'latest.*ndcg@10|latest' weir inspect ls run
expect 0 info 'builds on step' weir inspect info run
expect 0 tables 'table item: .* rows of 16 numbers in 2 files' weir inspect tables run
expect 0 get 'key 1, id .* updates, last used' weir inspect get run 1
expect 0 grep '[1-9][0-9]* items match' weir inspect grep run '^c1'
expect 0 stats 'age: steps since' weir inspect stats run
expect 0 top '^ +1 ' weir inspect top run 1
expect 0 diff '[1-9][0-9]* rows born' weir inspect diff run/checkpoints/step-000000000006 run
expect 8 absent 'has no row of key 99999' weir inspect get run 99999
expect 8 table 'has no table user' weir inspect stats run --table user
expect 2 key 'is no key' weir inspect get run x1
expect 8 nowhere 'nowhere' weir inspect ls nowhere
expect 2 verb 'did you mean diff' weir inspect dif run run
expect 0 keep 'nothing to remove' weir inspect prune run --keep 1000 --dry-run

# What is damaged is said, by those who read it.
shard=$(ls run/checkpoints/latest/item.ps-0000-of-*.safetensors)
size=$(stat -c %s "$shard")
printf '\377\377\377\377' | dd of="$shard" bs=1 seek=$((size - 400)) conv=notrunc status=none
expect 4 damaged 'is damaged' weir inspect stats run
expect 4 unfinished 'is damaged' weir inspect export run --out damaged.csv --format csv
[ -z "$(ls damaged.csv* 2>/dev/null)" ] || fail "an export that failed left something"
expect 0 headers 'builds on step' weir inspect info run
echo ok
