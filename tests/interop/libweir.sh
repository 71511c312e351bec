#!/usr/bin/env bash
# libweir.sh BUILD SOURCE CC: installed, found by pkg-config, linked by a program that knows nothing else of
# weir, static and shared; its header is C++ too; it brings neither MPI nor ZeroMQ.
set -euo pipefail
build=$1 source=$2 cc=$3
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

cmake --install "$build" --component libweir --prefix "$scratch/first" >"$scratch/install.log"
mv "$scratch/first" "$scratch/moved" # it may be moved
pc=$(dirname "$(find "$scratch/moved" -name weir.pc)")
export PKG_CONFIG_PATH=$pc
read -ra flags <<<"$(pkg-config --cflags --libs weir)"
libdir=$(pkg-config --variable=libdir weir)
"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$source/tests/interop/sum_rows.c" "${flags[@]}" -o "$scratch/shared"
read -ra below <<<"$(pkg-config --libs jansson libxxhash)"
"$cc" -std=c11 "$source/tests/interop/sum_rows.c" -I"$(pkg-config --variable=includedir weir)" \
  "$libdir/libweir.a" "${below[@]}" -o "$scratch/static"
if command -v c++ >/dev/null; then
  echo '#include <weir/reader.h>
int main() { return weir_reader_slot(1) < WEIR_READER_SLOTS ? 0 : 1; }' >"$scratch/program.cc"
  c++ -Wall -Wextra -Werror "$scratch/program.cc" "${flags[@]}" -o "$scratch/cxx"
  LD_LIBRARY_PATH=$libdir "$scratch/cxx"
fi
got=0
LD_LIBRARY_PATH=$libdir "$scratch/shared" "$scratch/nowhere" 2>"$scratch/error" || got=$?
[ "$got" -eq 1 ] && grep -q nowhere "$scratch/error" || fail "a checkpoint that is not there: $got"
got=0
"$scratch/static" "$scratch/nowhere" 2>"$scratch/error" || got=$?
[ "$got" -eq 1 ] && grep -q nowhere "$scratch/error" || fail "static: $got"

ldd "$libdir/libweir.so" >"$scratch/ldd"
! grep -Eiq 'mpi|zmq|rocksdb|openblas|protobuf' "$scratch/ldd" || fail "libweir links: $(cat "$scratch/ldd")"
nm -D --defined-only "$libdir/libweir.so" | awk '$2 != "A" {print $3}' | grep -v '^weir_reader_' >"$scratch/foreign" || true
[ ! -s "$scratch/foreign" ] || fail "names that are not the reader's: $(cat "$scratch/foreign")"
nm -g --defined-only "$libdir/libweir.a" | awk 'NF == 3 {print $3}' | grep -v '^weir_reader_' >"$scratch/foreign" || true
[ ! -s "$scratch/foreign" ] || fail "names in libweir.a: $(cat "$scratch/foreign")"
echo "ok"
