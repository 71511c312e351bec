#!/usr/bin/env bash
# breaches.sh ROOT: the scripts that hold the rules find what breaks them. A small tree that keeps them all
# passes; then one breach at a time is put into it, and the script must name its file and line.
set -euo pipefail
scripts=$(cd "$1/scripts" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# A tree that breaks no rule.
plant() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{common,proto,ps,worker,tools,docs,tests/mpi,coordinator}
  cp "$scripts/../.clang-format" "$tree/"
  printf '#include <stdio.h>\n\nint weir_log_count(void) {\n    return 1;\n}\n' >"$tree/common/log.c"
  printf '#include <mpi.h>\n' >"$tree/common/comm_mpi.h"
  printf '#include "common/comm_mpi.h"\n' >"$tree/common/comm_mpi_send.c"
  printf '#include <mpi.h>\n' >"$tree/tests/mpi/test_comm.c"
  printf '#include "common/hash.h"\n#include "ps/split.h"\n' >"$tree/ps/client.c"
  printf '#include "ps/client.h"\n' >"$tree/worker/trainer.c"
  printf '#include "worker/rank.h"\n' >"$tree/tools/eval.c"
  printf 'See `common/log.c:weir_log_count`, [the log](../common/log.c), /home of nobody.\n' >"$tree/docs/log.md"
}

# breaks NAME PATTERN: check-NAME refuses the tree with a line that matches PATTERN.
breaks() {
  local status=0 output
  output=$("$scripts/check-$1" "$tree" 2>&1) || status=$?
  [ "$status" -eq 1 ] || fail "check-$1 ended with $status, expected 1 for: $2"
  grep -Eq -- "$2" <<<"$output" || fail "check-$1: no line matches '$2' in: $output"
  plant
}

keeps() {
  "$scripts/check-$1" "$tree" >/dev/null || fail "check-$1 refuses a tree that keeps the rules"
}

plant
keeps layers
keeps docs
keeps words

printf '#include "worker/hstu.h"\n' >"$tree/common/file.c"
breaks layers '^common/file.c:1: common/ may not include worker/hstu.h'
printf '\n#include "ps/table.h"\n' >"$tree/worker/batch.c"
breaks layers '^worker/batch.c:2: .*not ps/table.h'
printf '#include "ps/table.h"\n' >"$tree/ps/split.c"
breaks layers '^ps/split.c:1: '
printf '#  include "worker/dot.h"\n' >"$tree/ps/table.c"
breaks layers '^ps/table.c:1: ps/ may not include'
printf '#include "ps/server.h"\n' >"$tree/coordinator/coordinator.c"
breaks layers '^coordinator/coordinator.c:1: '
printf '#include "tools/verbs.h"\n' >"$tree/proto/job.c"
breaks layers '^proto/job.c:1: '
printf '#include "error.h"\n' >"$tree/common/file.c"
breaks layers '^common/file.c:1: .*without its folder'
printf '#include "../ps/table.h"\n' >"$tree/common/file.c"
breaks layers '^common/file.c:1: .*without its folder'
printf '#include <mpi.h>\n' >"$tree/ps/server.c"
breaks layers '^ps/server.c:1: <mpi.h>'
printf '#include "common/comm_mpi.h"\n' >"$tree/ps/server.c"
breaks layers '^ps/server.c:1: common/comm_mpi.h'
mkdir "$tree/util" && printf '\n' >"$tree/util/util.c"
breaks layers '^util/util.c:1: .*has no layer'
seq 1001 >"$tree/tools/long.c"
breaks layers '^tools/long.c:1001: more than 1000 lines'

printf 'See `common/log.c:weir_log_cuont`.\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:1: common/log.c defines no weir_log_cuont'
printf '\nSee `common/lug.c:weir_log_count`.\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:2: there is no common/lug.c'
printf 'See `ps/index.h`.\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:1: there is no ps/index.h'
printf '[files](files/none.md#top)\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:1: the link to files/none.md leads nowhere'
printf 'Held by `0001-none.sh`.\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:1: the test 0001-none.sh is named without its folder'
printf 'int main(void) {}\n' >"$tree/tests/mpi/test_lost.c"
printf 'weir_mpi_test(test_comm SOURCES test_comm.c)\n' >"$tree/tests/mpi/CMakeLists.txt"
printf 'Held by `tests/mpi/test_comm.c` and\n`tests/mpi/test_lost.c`.\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:2: tests/mpi/test_lost.c is built by no CMakeLists.txt'
# A call is no definition.
printf 'int weir_log_count(void) {\n    return weir_log_depth();\n}\n' >"$tree/common/log.c"
printf 'See common/log.c:weir_log_depth\n' >"$tree/docs/log.md"
breaks docs '^docs/log.md:1: common/log.c defines no weir_log_depth'

printf 'ls "/%s/someone/weir"\n' home >"$tree/tools/run.sh"
breaks words '^tools/run.sh:1:'
printf 'in %s\n' "$(cd "$tree" && pwd -P)" >"$tree/docs/log.md"
breaks words '^\./docs/log.md:1:|^docs/log.md:1:'
printf 'void f(char *a) {\n    strcpy(a, "b");\n}\n' >"$tree/ps/table.c"
breaks words '^ps/table.c:2:'
printf 'void f(void) {\n    exit(1);\n}\n' >"$tree/ps/table.c"
breaks words '^ps/table.c:2:'

status=0
"$scripts/check-format" "$tree" >/dev/null 2>&1 || status=$?
if [ "$status" -ne 77 ]; then
  [ "$status" -eq 0 ] || fail "check-format refuses a formatted tree"
  printf 'int  f( void );\n' >"$tree/ps/table.c"
  breaks format '^ps/table.c: run clang-format'
fi

rm -rf "${tree:?}"/* && mkdir "$tree/docs"
for rule in layers docs words; do # where nothing is found, nothing was checked
  ! "$scripts/check-$rule" "$tree" >/dev/null 2>&1 || fail "check-$rule passes an empty tree"
done
echo "every breach was found"
