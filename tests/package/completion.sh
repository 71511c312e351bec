#!/usr/bin/env bash
# completion.sh BIN COMPLETION: every verb and option of --help is offered, in bash as a shell would ask, and by
# zsh where there is one; after a verb its own, not others'.
set -euo pipefail
bin=$1 completion=$2

fail() {
  echo "FAILED: $*" >&2
  exit 1
}
. "$completion/weir"

# offered WORD...: what bash offers after these words.
offered() {
  COMP_WORDS=(weir "$@" "") COMP_CWORD=$(($# + 1)) COMPREPLY=()
  _weir
  printf '%s\n' "${COMPREPLY[@]}"
}

checked=0
check() {
  local help verb option all
  help=$(ARGP_HELP_FMT=rmargin=2000 "$bin/weir" "$@" --help)
  all=$(offered "$@")
  for option in $(grep -oE '^ +(-., +)?--[a-z-]+' <<<"$help" | grep -oE -- '--[a-z-]+'); do
    grep -qxF -- "$option" <<<"$all" || fail "weir $*: $option is not offered"
  done
  checked=$((checked + 1))
  if grep -q '^Usage: .* VERB' <<<"$help"; then
    for verb in $(sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p' <<<"$help"); do
      grep -qxF "$verb" <<<"$all" || fail "weir $*: $verb is not offered"
      check "$@" "$verb"
    done
  fi
}
check
[ "$checked" -gt 10 ] || fail "only $checked verbs"
[ "$(offered ctl --run x | grep -c -x -e status -e stop -e checkpoint -e halt)" -eq 4 ] || fail "weir ctl: $(offered ctl)"
offered train | grep -qx -- --workers || fail "weir train: no --workers"
! offered train | grep -qx -- --users || fail "weir train offers an option of another verb"
COMP_WORDS=(weir tra) COMP_CWORD=1
_weir
[ "${COMPREPLY[*]}" = train ] || fail "tra: ${COMPREPLY[*]}"
if command -v zsh >/dev/null; then
  zsh -n "$completion/_weir" || fail "zsh does not read it"
  for verb in train 'prepare csv' ctl; do
    [ "$(zsh -c "$(sed '/^_weir "\$@"/d' "$completion/_weir"); _weir_line $verb")" = "$(offered $verb | tr '\n' ' ' | sed 's/ $//')" ] ||
      fail "zsh: $verb"
  done
fi
echo "$checked verbs"
