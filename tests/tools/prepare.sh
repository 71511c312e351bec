#!/usr/bin/env bash
# weir prepare, synth and config as a person uses them: what is written, what is said, how it ends.
# Usage: prepare.sh WEIR
set -euo pipefail
weir=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
  echo "FAILED: $*" >&2
  cat out err >&2 2>/dev/null || true
  exit 1
}

# expect STATUS COMMAND...: stdout in out, stderr in err
expect() {
  local status=$1 got=0
  shift
  "$@" >out 2>err </dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "exit status $got, expected $status: $*"
}
said() { grep -qF -- "$1" out || fail "stdout lacks: $1"; }
warned() { grep -qF -- "$1" err || fail "stderr lacks: $1"; }
number() { # number KEY VALUE in the JSON of out
  grep -qE "\"$1\": $2(,|\$)" out || fail "no \"$1\": $2"
}

# ---- MovieLens ----
printf '%s\n' '1::10::5::100' '1::20::3::90' '2::30::4.5::100' 'broken' '2::10::x::100' \
  '2::10::4::soon' '::10::4::100' '1::10::5::100::7' '' '3::99::1::-5' >ratings.dat
printf '10::Caf\xe9 (1999)::Drama\n20::Two: the Second\n30::Trois\xc3\xa9::Comedy\n40::Unrated\n10::Again\n' >movies.dat
expect 0 "$weir" prepare movielens --ratings ratings.dat --catalog movies.dat --out ml --json
number users 3
number items 5
number items_with_events 4
number events 4
number not_in_catalogue 1
number single_event_users 2
number lines 9
number bad_lines 6
number first_time -5
warned 'ratings.dat:4: the line is not user, item, rating, time: "broken"'
warned 'ratings.dat:5: the rating is not a finite number: "x"'
warned 'ratings.dat:6: the time is not a number'
warned 'ratings.dat:7: the user is empty'
warned 'ratings.dat:8: the line is not user, item, rating, time'
warned 'movies.dat:5: the item is in the catalogue already: "10"'
grep -qF 'Café (1999)' ml/dictionary.safetensors || fail "a Latin-1 name was not converted"
grep -qF 'Troisé' ml/dictionary.safetensors || fail "a UTF-8 name was not kept"
[ "$(ls ml | wc -l)" -eq 2 ] || fail "more than two files: $(ls -A ml)"

expect 7 "$weir" prepare movielens --ratings ratings.dat --out ml
warned 'ml exists already'
expect 0 "$weir" prepare movielens --ratings ratings.dat --out ml --force
said 'bad lines 5 of 9'
expect 2 "$weir" prepare movielens --ratings ratings.dat --out strict --strict
warned 'ratings.dat:4: the line is not'
[ ! -e strict ] || fail "--strict left something"
printf '196\t242\t3\t881250949\n' >u.data
expect 0 "$weir" prepare movielens --ratings u.data --out tabs --json
number events 1

# ---- CSV ----
printf '\xef\xbb\xbfwho,"what, exactly",when\r\n"a ""b""",x,1500\r\n"two\r\nlines",y,2500\r\na,x\r\n"a"b,x,3\r\nc,y,nan\r\n' >log.csv
expect 0 "$weir" prepare csv --file log.csv --user who --item 'what, exactly' --time when \
  --time-unit ms --out csv --json
number users 2
number events 2
number bad_lines 3
number last_time 2
warned 'log.csv:5: the record has too few fields'
warned 'log.csv:6: text follows a closing quote'
warned 'log.csv:7: the time is not a number'
"$weir" prepare csv --file - --user 0 --item 1 --time 2 --out pipe --json <log.csv >out 2>err || fail "standard input"
number events 2
expect 2 "$weir" prepare csv --file - --user 0 --item 1 --time 2 --out none
warned 'no usable event in 0 lines'
[ ! -e none ] || fail "an empty result left something"
printf 'u,i,2024-02-29 12:00:00\n' >dates.csv
expect 2 "$weir" prepare csv --file dates.csv --user 0 --item 1 --time 2 --header no --out none
warned "HINT: a time is a number since 1970"
expect 2 "$weir" prepare csv --file log.csv --user wo --item 1 --time 2 --out none
warned 'the header has no column wo (--user); did you mean who'
expect 2 "$weir" prepare csv --file log.csv --user 0 --item 1 --out none
warned '--time COLUMN is missing'
expect 2 "$weir" prepare csv --file log.csv --user 0 --item 1 --time 2 --out none --delimiter '""'
expect 8 "$weir" prepare csv --file absent.csv --user 0 --item 1 --time 2 --out none
warned 'absent.csv'
gzip -c log.csv >log.csv.gz
expect 2 "$weir" prepare csv --file log.csv.gz --user 0 --item 1 --time 2 --out none
warned 'compressed by gzip'
expect 2 "$weir" prepare csv --file log.csv --user 0 --item 1 --time 2 --out none --min-user 5
warned 'of 2 events none'
[ ! -e none ] || fail "a refused preparation left something"

# Header or none: auto decides by the time column; rating by name.
printf '1;2;3;10\n1;3;4;11\n' >plain.csv
expect 0 "$weir" prepare csv --file plain.csv --user 0 --item 1 --rating 2 --time 3 --delimiter ';' --out plain --json
number events 2
expect 0 "$weir" prepare csv --file plain.csv --user 0 --item 1 --time 3 --delimiter ';' --header yes --out plain --force --json
number events 1

# Bad lines beyond the twentieth are counted, not shown.
for i in $(seq 100); do echo "$i,x"; done >bad.csv
echo '1,2,3' >>bad.csv
expect 0 "$weir" prepare csv --file bad.csv --user 0 --item 1 --time 2 --header no --out many --json
number bad_lines 100
[ "$(grep -c 'too few fields' err)" -eq 20 ] || fail "not 20 lines shown"

# A full disk: one sentence, its own status, nothing that looks whole.
if [ "$(id -u)" -eq 0 ] && mkdir small && mount -t tmpfs -o size=1m tmpfs small 2>/dev/null; then
  got=0
  "$weir" synth --out small/data --users 5000 >out 2>err || got=$?
  left=$(find small -type f | wc -l)
  umount small
  [ "$got" -eq 11 ] || fail "a full disk ended with $got"
  [ "$left" -eq 0 ] || fail "a full disk left files"
fi

# ---- synth ----
expect 0 "$weir" synth --out a --users 50 --items 30 --seed 9
expect 0 "$weir" synth --out b --users 50 --items 30 --seed 9 --json
number users 50
cmp a/events.safetensors b/events.safetensors || fail "the same seed, other data"
expect 0 "$weir" synth --out c --users 50 --items 30 --seed 10
! cmp -s a/events.safetensors c/events.safetensors || fail "another seed, the same data"
expect 2 "$weir" synth --out d --users 0
expect 2 "$weir" synth --out d --users 1e3
expect 7 "$weir" synth --out a

# ---- config and dispatch ----
expect 0 "$weir" config
said 'model.embedding_dim'
printf 'model:\n  heads: 2\n' >c.yaml
expect 0 "$weir" config --config c.yaml --set model.blocks=3
said '  heads: 2'
said '  blocks: 3'
cp out whole.yaml
expect 0 "$weir" config --config whole.yaml
cmp out whole.yaml || fail "a whole configuration does not read back"
expect 2 "$weir" config --config c.yaml --set model.heds=3
warned 'did you mean model.heads?'
expect 2 "$weir"
expect 2 "$weir" prepar
warned 'did you mean prepare?'
expect 2 "$weir" prepare movilens
warned 'did you mean movielens?'
for verb in config prepare 'prepare csv' 'prepare movielens' synth; do
  # shellcheck disable=SC2086
  expect 0 "$weir" $verb --help
  said 'Usage:'
done
expect 0 "$weir" --version
said 'weir '
echo ok
