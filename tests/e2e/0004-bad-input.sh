#!/usr/bin/env bash
# Everything a user or a disk can get wrong: a clear sentence, a non-zero exit, within seconds.
. "${WEIR_SOURCE:?}/tests/e2e/lib.sh"
make_data
make_config
t() { expect "$@"; }

# configuration
t 8 no-config 'nothing.yaml' weir train --config nothing.yaml --run r
printf 'model: {embeding_dim: 16}\n' >bad.yaml
t 2 unknown-key 'bad.yaml:1.*embeding_dim.*embedding_dim' weir train --config bad.yaml --run r
printf 'model:\n  heads: many\n' >bad.yaml
t 2 wrong-type 'bad.yaml:2.*model.heads' weir train --config bad.yaml --run r
printf 'model:\n  input_dropout: 1.5\n' >bad.yaml
t 2 out-of-range 'bad.yaml:2.*input_dropout' weir train --config bad.yaml --run r
t 2 bad-set 'model.colour' weir train --config config.yaml --run r --set model.colour=red
t 2 many-servers 'slots|16384' weir train --config config.yaml --run r --ps 20000
t 2 wrong-flag 'servres|usage|Usage|Try' weir train --config config.yaml --servres 3
t 2 no-verb 'trian' weir trian

# the run's folder
touch file
t 3 run-in-a-file 'file/run cannot be written.*Not a directory' weir train --config config.yaml --run file/run
t 3 run-is-a-file 'file cannot be written.*Not a directory' weir train --config config.yaml --run file

# data
t 8 no-data 'nowhere' weir train --config config.yaml --run r --set data.path=nowhere
for damage in empty truncated header overlap item0 huge-item time nan; do
  rm -rf broken && cp -r data broken
  python3 - "$damage" <<'PY'
import json, struct, sys
path = "broken/events.safetensors"
bytes_ = bytearray(open(path, "rb").read())
size = struct.unpack("<Q", bytes_[:8])[0]
header = json.loads(bytes_[8 : 8 + size])
data = 8 + size
def put(tensor, index, value):
    struct.pack_into("<q", bytes_, data + header[tensor]["data_offsets"][0] + 8 * index, value)
damage = sys.argv[1]
if damage == "empty": bytes_ = bytearray()
elif damage == "truncated": del bytes_[len(bytes_) // 2 :]
elif damage == "header": bytes_[:8] = struct.pack("<Q", 1 << 63)
elif damage == "overlap":
    header["times"]["data_offsets"] = header["items"]["data_offsets"]
    text = json.dumps(header).encode().ljust(size)
    bytes_ = bytearray(struct.pack("<Q", len(text))) + text + bytes_[data:]
elif damage == "item0": put("items", 3, 0)
elif damage == "huge-item": put("items", 3, -(1 << 63))
elif damage == "time": put("times", 1, 0)
elif damage == "nan":
    struct.pack_into("<f", bytes_, data + header["actions"]["data_offsets"][0], float("nan"))
open(path, "wb").write(bytes_)
PY
  t 4 "data-$damage" 'events.safetensors' weir train --config config.yaml --run r --set data.path=broken
done
[ ! -e r ] || [ ! -e r/checkpoints/latest ] || fail "a run was left behind"

# runs
train run 1 1 --set train.max_steps=4
t 7 run-exists 'resume' weir train --config config.yaml --run run
t 8 no-run 'nothing' weir eval --run nothing
t 8 no-step 'step' weir eval --run run --step 77
python3 - <<'PY' &
import os, socket, time
s = socket.socket(); s.bind(("0.0.0.0", 0)); s.listen()
open("held.tmp", "w").write(str(s.getsockname()[1])); os.rename("held.tmp", "held")
time.sleep(900)
PY
holder=$!
for _ in $(seq 600); do [ ! -f held ] || break; sleep 0.1; done
port=$(cat held) || fail "no port to hold"
t 7 port "$port" weir train --config config.yaml --run port --set cluster.port="$port"
kill "$holder"

# jobs put together by hand
roles() { # roles NAME STATUS PATTERN COORDINATOR-ARGS -- WORKER-ARGS, with $worker as the worker
  local name=$1 status=$2 pattern=$3
  shift 3
  expect "$status" "$name" "$pattern" env OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=0 \
    mpirun -n 1 "$WEIR_BIN/weir-coordinator" --config config.yaml --run hand : \
    -n "${servers:-1}" "$WEIR_BIN/weir-ps" --config config.yaml --run hand : \
    -n 1 "${worker:-$WEIR_BIN/weir-worker}" --config config.yaml --run hand "$@"
}
worker="$WEIR_BIN/../tests/weir-worker-other" roles other-version 9 'weir-worker 0.0.0-other, but .* weir-coordinator'
[ "$(grep -c '0.0.0-other' other-version.log)" -eq 1 ] || fail "not exactly one rank named the other version"
servers=2 roles other-count 2 'the job has 4 ranks'
roles other-configuration 2 'another configuration' --set train.seed=9
[ ! -e hand/config.yaml ] || fail "a job that never started left a run behind"

# checkpoints
latest=$(readlink -f run/checkpoints/latest)
for file in "$latest"/*; do
  cp "$file" saved
  printf 'x' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc 2>/dev/null
  got=0; timeout -k 5 180 weir inspect run --verify >verify.log 2>&1 || got=$?
  [ "$got" -eq 4 ] || fail "a flipped byte in $(basename "$file") was not seen (status $got)"
  grep -q "$(basename "$file")" verify.log || fail "the damaged file is not named"
  cp saved "$file"
done
truncate -s 100 "$latest/dense.safetensors"
got=0; timeout -k 5 180 weir train --config config.yaml --run run --resume --set train.max_steps=8 >resume.log 2>&1 </dev/null || got=$?
[ "$got" -ne 0 ] || fail "resumed from a damaged checkpoint"
grep -q 'dense.safetensors' resume.log || fail "resume: the damaged file is not named"
[ "$(readlink -f run/checkpoints/latest)" = "$latest" ] || fail "latest moved"

# a full disk
if [ "$(id -u)" -eq 0 ] && mkdir -p small && mount -t tmpfs -o size=200k tmpfs small 2>/dev/null; then
  got=0; timeout -k 5 180 weir train --config config.yaml --run small/run --set train.max_steps=4 >full.log 2>&1 </dev/null || got=$?
  weir synth --out small/data --users 5000 --items 1000 --seed 1 >full-synth.log 2>&1 && synth=0 || synth=$?
  umount small
  [ "$got" -ne 0 ] || fail "a full disk ended with success"
  grep -Eqi 'space|full' full.log || fail "full disk: no sentence"
  [ "$synth" -eq 11 ] || fail "synth on a full disk ended with $synth"
else
  echo "skipped: full disk (needs root and tmpfs)"
fi
echo "ok"
