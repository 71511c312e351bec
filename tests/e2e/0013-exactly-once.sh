#!/usr/bin/env bash
# A gradient is applied once, whatever the network does to the frames: with frames repeated, delayed and
# overtaken the result is the same bit for bit; with frames lost the job ends, and a resumed one ends as if
# nothing had happened.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config

train a 2 2
digest a >a.digest

# Every rank's frames to every other: pulls, rows, gradients, reductions, barriers.
WEIR_COMM_FAULTS=seed=1,duplicate=0.2,delay=0.3,seconds=0.02 train b 2 2
grep -q "on purpose" b.log || fail "there were no faults"
digest b >b.digest
diff a.digest b.digest || fail "another result where frames are repeated and overtaken"

# Lost frames: nobody goes on behind one. Two of three seconds are waited for it, half of cluster.timeout.
status=0
WEIR_COMM_FAULTS=seed=2,drop=0.01,first=60 timeout -k 5 180 weir train --config config.yaml --run c --ps 2 --workers 2 \
  --set cluster.timeout=6 --set train.checkpoint_every=5 >c.log 2>&1 </dev/null || status=$?
[ "$status" -ne 0 ] || fail "frames were lost and nobody noticed"
grep -Eq "did not come in 3 s|in 6 s" c.log || fail "no sentence about the loss"
train c 2 2 --resume
digest c >c.digest
diff a.digest c.digest || fail "another result after frames were lost and the job resumed"

expect 2 faults "WEIR_COMM_FAULTS.*no list of faults" env WEIR_COMM_FAULTS=often weir train --config config.yaml --run d
echo "ok"
