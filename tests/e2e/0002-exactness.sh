#!/usr/bin/env bash
# bsp: the same bits on every run and for any number of servers; to rounding for any number of workers;
# a resumed run continues bit for bit.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config

train a 1 2
digest a >a.digest
for servers in 1 2 3; do
  train "b$servers" "$servers" 2
  digest "b$servers" >b.digest
  diff a.digest b.digest || fail "$servers servers: another result"
done

train c 2 1 --set train.max_steps=20 --set train.log_every=1
train d 1 3 --set train.max_steps=20 --set train.log_every=1
train e 1 2 --set train.max_steps=20 --set train.log_every=1
python3 - <<'PY' || fail "the loss depends on the number of workers"
import json
def losses(run):
    return {r["step"]: r["loss"] for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["kind"] == "train"}
one, three, two = losses("c"), losses("d"), losses("e")
assert len(one) == 20 and one.keys() == three.keys() == two.keys(), (len(one), len(three))
for step in one:
    for other in (two, three):
        assert abs(one[step] - other[step]) <= 1e-3 * abs(one[step]), (step, one[step], other[step])
PY

# Resume: with other servers too, mid-epoch, with evaluation behind and ahead.
train f 2 2 --set train.max_steps=11
train f 3 2 --resume
digest f >f.digest
diff a.digest f.digest || fail "a resumed run differs from one that never stopped"
echo "ok"
