#!/usr/bin/env bash
# The real logs of WEIR_DATA (never in the repository), where they are. Usage: real_logs.sh WEIR
set -euo pipefail
weir=$(realpath "$1")
configs=$(realpath "$(dirname "$0")/../../configs")
if [ -z "${WEIR_DATA:-}" ]; then
  echo "skipped: WEIR_DATA is unset"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tried=0

# check NAME KEY VALUE...
check() {
  local name=$1
  shift
  while [ $# -gt 0 ]; do
    grep -qE "\"$1\": $2(,|\$)" "$scratch/out" || {
      echo "FAILED: $name: no \"$1\": $2" >&2
      cat "$scratch/out" >&2
      exit 1
    }
    shift 2
  done
  tried=$((tried + 1))
  echo "$name: ok"
}

if [ -f "$WEIR_DATA/ml-1m/ratings.dat.xz" ]; then
  xz -dc "$WEIR_DATA/ml-1m/ratings.dat.xz" |
    "$weir" prepare movielens --ratings - --catalog "$WEIR_DATA/ml-1m/movies.dat" --out "$scratch/ml" --strict --json >"$scratch/out"
  check ml-1m users 6040 items 3883 items_with_events 3706 events 1000209 min 20 max 2314 bad_lines 0
fi
if [ -f "$WEIR_DATA/ml-100k/u.data" ]; then
  "$weir" prepare movielens --ratings "$WEIR_DATA/ml-100k/u.data" --out "$scratch/100k" --strict --json >"$scratch/out"
  check ml-100k users 943 items 1682 events 100000
fi
if [ -f "$WEIR_DATA/movietweetings/ratings.dat.xz" ]; then
  xz -dc "$WEIR_DATA/movietweetings/ratings.dat.xz" |
    "$weir" prepare movielens --ratings - --out "$scratch/mt" --strict --json >"$scratch/out"
  check movietweetings users 21081 items 12611 events 141695
fi
if [ -f "$WEIR_DATA/globo/clicks.csv.zst" ] && command -v zstd >/dev/null; then
  zstd -dcq --long=27 "$WEIR_DATA/globo/clicks.csv.zst" |
    "$weir" prepare csv --file - --user user_id --item click_article_id --time click_timestamp --time-unit ms \
      --out "$scratch/globo" --strict --json >"$scratch/out"
  check globo users 322897 items 46033 events 2988181 median 4.0
fi
if [ -f "$WEIR_DATA/kuairand-pure/user_features_pure.csv.zst" ] && command -v zstd >/dev/null; then
  for file in "$WEIR_DATA"/kuairand-pure/*.csv.zst; do
    zstd -dcq "$file" >"$scratch/$(basename "$file" .zst)"
  done
  "$weir" prepare tables --schema "$configs/kuairand-pure.schema.yaml" --folder "$scratch" --out "$scratch/kuairand" \
    --strict --json >"$scratch/out"
  check kuairand-pure users 25156 items 6361 events 228329 click 100900 like 3915 follow 304 comment 579 forward 195 \
    hate 190 long_view 70963 bad_lines 0
  # docs/ranking-data.md
  "$weir" baseline logistic --data "$scratch/kuairand" --test-from 1651939200 --task click --json >"$scratch/out"
  check kuairand-pure-logistic train_events 212748 test_events 15581 ne '0.86[0-9]*' auc '0.73[0-9]*' broken 0
fi
[ "$tried" -gt 0 ] || {
  echo "skipped: none of the logs is in $WEIR_DATA"
  exit 77
}
