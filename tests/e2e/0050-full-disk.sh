#!/usr/bin/env bash
# A disk that fills up anywhere in a job: whoever meets it, a server, a worker or the coordinator, the job ends with 11
# and a sentence, what was published stays whole, and with room it goes on to the bits of the run that never failed.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
if ! { [ "$(id -u)" -eq 0 ] && mkdir -p small && mount -t tmpfs -o size=4m tmpfs small 2>/dev/null; }; then
  echo "skipped: needs root and tmpfs"
  exit 77
fi
make_data
make_config
every="--set train.checkpoint_every=6 --set train.log_every=1000"
train reference 2 1 $every
size=$(du -sk reference/checkpoints/latest/ | cut -f1)

# leave KIB: so much room on the small disk, whatever is there
leave() {
  local free
  rm -f small/filler
  free=$(df -k --output=avail small | tail -n 1)
  dd if=/dev/zero of=small/filler bs=1024 count=$((free - $1)) status=none
}

for part in 10 35 60 85 110 180 220; do # in hundredths of a checkpoint: in the first one, in the second
  rm -rf small/run
  leave $((24 + size * part / 100))
  expect 11 "full-$part" "No space left|no space left" \
    weir train --config config.yaml --run small/run --ps 2 --workers 1 $every
  grep -E '^weir-[a-z]+: ' "full-$part.log" | head -n 1 >>who
  newest=$(readlink small/run/checkpoints/latest || true)
  [ -z "$newest" ] || expect 0 "verify-$part" "all as it was written" weir verify small/run
done
[ -n "$newest" ] || fail "nothing was ever published"
grep -Eq '\((ps) [01] on' who || fail "no server met the full disk: $(cat who)"
leave 2000
train small/run 2 1 $every --resume
[ "$(digest small/run/checkpoints/latest)" = "$(digest reference/checkpoints/latest)" ] || fail "not the bits of the run that never failed"
rm small/filler
echo "ok: $(grep -c "(ps" who) times a server, $(grep -c "(worker" who) times a worker, $(grep -vc "(ps\|(worker" who) times nobody of these"
