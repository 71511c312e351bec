#!/usr/bin/env bash
# install.sh BUILD: the Debian package holds what it should, and its programs run from where they were unpacked.
# Exit status 77: not tried.
set -euo pipefail
build=$1
command -v dpkg-deb >/dev/null && command -v dpkg-shlibdeps >/dev/null || { echo "skipped: no dpkg-dev"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# What was built is packed as it is: the tests do not build.
(cd "$scratch" && cpack -G DEB --config "$build/CPackConfig.cmake" -D CPACK_PACKAGE_DIRECTORY="$scratch" \
  -D CPACK_INSTALL_CMAKE_PROJECTS="$build;weir;ALL;/") >"$scratch/cpack.log" 2>&1 || fail "cpack: $(tail -n 20 "$scratch/cpack.log")"
package=$(find "$scratch" -maxdepth 1 -name '*.deb')
[ "$(wc -l <<<"$package")" -eq 1 ] && [ -n "$package" ] || fail "packages: $package"
for name in libopenblas libzmq5 libprotobuf-c1 libmicrohttpd12 openmpi-bin; do
  dpkg-deb -f "$package" Depends | grep -q "$name" || fail "does not depend on $name: $(dpkg-deb -f "$package" Depends)"
done
dpkg-deb -x "$package" "$scratch/root"
root=$scratch/root/usr
for file in bin/weir bin/weir-coordinator bin/weir-ps bin/weir-worker share/man/man1/weir.1 share/man/man1/weir-train.1 \
  share/bash-completion/completions/weir share/zsh/site-functions/_weir share/weir/slurm/many-nodes.sbatch \
  share/weir/configs/demo.yaml share/weir/grafana-dashboard.json share/doc/weir/README.md share/doc/weir/docs/operations.md; do
  [ -s "$root/$file" ] || [ -s "$root/$file.gz" ] || fail "$file is not in the package"
done
find "$root/share/weir/modulefiles/weir" -type f | xargs grep -q '^set root' || fail "no modulefile"

# With nothing else in PATH than the system: the roles are found beside weir.
export PATH="$root/bin:/usr/bin:/bin"
cd "$scratch"
"$root/bin/weir" --version | grep -Eq '^weir [0-9]+\.[0-9]+' || fail "--version"
[ "$(command -v weir-worker)" = "$root/bin/weir-worker" ] || fail "another weir-worker is found"
weir synth --out data --users 60 --items 40 --seed 1 >/dev/null
(PATH=/usr/bin:/bin
 "$root/bin/weir" train --config "$root/share/weir/configs/demo.yaml" --set data.path=data --set train.epochs=1 --run run --ps 1 --workers 1 \
   >train.log 2>&1 </dev/null) || fail "train: $(tail -n 20 train.log)"
grep -q '"finished"' run/outcome.json || fail "the job did not finish"
echo "ok"
