#!/usr/bin/env bash
# man_pages.sh BIN MAN: a page for every program and verb, with every option its --help shows, that the
# man formatter takes without a warning. Exit status 77: not tried.
set -euo pipefail
bin=$1 man=$2
command -v groff >/dev/null || { echo "skipped: no groff"; exit 77; }

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# check NAME PROGRAM [VERB...]
checked=0
check() {
  local name=$1 program=$2 help option verb
  shift 2
  help=$(ARGP_HELP_FMT=rmargin=2000 "$bin/$program" "$@" --help)
  [ -s "$man/$name.1" ] || fail "no page $name"
  for option in $(grep -o '^ .*--[a-z-]*' <<<"$help" | grep -o -- '--[a-z-]*$'); do
    grep -qF -- "${option//-/\\-}" "$man/$name.1" || fail "$name: $option is missing"
  done
  warnings=$(groff -man -ww -z "$man/$name.1" 2>&1)
  [ -z "$warnings" ] || fail "$name: $warnings"
  grep -q "^\.B ${program//-/\\\\-}" "$man/$name.1" || fail "$name: no synopsis"
  checked=$((checked + 1))
  if grep -q '^Usage: .* VERB' <<<"$help"; then
    for verb in $(sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' <<<"$help"); do
      check "$name-$verb" "$program" "$@" "$verb"
    done
  fi
}
check weir weir
check weir-coordinator weir-coordinator
check weir-ps weir-ps
check weir-worker weir-worker
[ "$checked" -eq "$(find "$man" -name '*.1' | wc -l)" ] || fail "there are other pages too"
[ "$checked" -gt 10 ] || fail "only $checked pages"
echo "$checked pages"
