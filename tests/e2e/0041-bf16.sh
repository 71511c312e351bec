#!/usr/bin/env bash
# A job in bfloat16: one result for any number of servers and threads, none that float32 has; the log says
# what computes.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data 120 90
make_config

train one 1 2 --set train.compute=bf16
train two 2 2 --set train.compute=bf16 --set train.threads=3
train wide 1 2
for run in one two wide; do
  digest $run >$run.digest
done
[ -s one.digest ] || fail "nothing to compare"
diff one.digest two.digest || fail "other servers and threads, another result"
! diff -q one.digest wide.digest >/dev/null || fail "bfloat16 gave what float32 gives"
grep -rhq 'msg="computing".* compute=\(amx\|avx512_bf16\|rounded\)' one* || fail "the log does not say that bfloat16 computes"
grep -rhq 'msg="computing".* compute=float32' wide* || fail "the log does not say that float32 computes"
expect 2 word 'train.compute' weir train --config config.yaml --run none --ps 1 --workers 1 --set train.compute=half
echo "ok"
