#!/usr/bin/env python3
"""import_rows.py WEIR WHERE OUT: numpy makes rows, `weir inspect import` writes them into a checkpoint; safetensors
then finds them there with the state of new rows, and every other row as it was. Exit status 77: not tried."""
import json
import pathlib
import subprocess
import sys

try:
    import numpy
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

weir, where, out = sys.argv[1:]


def table(folder):
    shards = [safetensors.numpy.load_file(p) for p in sorted(pathlib.Path(folder).glob("item.ps-*"))]
    return {name: numpy.concatenate([shard[name] for shard in shards]) for name in ("keys", "value", "m", "count")}


def run(*words):
    return subprocess.run([weir, "inspect", "import", where, *words], capture_output=True, text=True)


before = table(pathlib.Path(where) / "checkpoints" / "latest")
dim = before["value"].shape[1]
random = numpy.random.default_rng(5)
keys = numpy.concatenate([before["keys"][::3], 10**12 + numpy.arange(20, dtype="u8")])
random.shuffle(keys)
values = random.standard_normal((len(keys), dim), "f4")
numpy.save("keys.npy", keys)
numpy.save("values.npy", values)
safetensors.numpy.save_file({"keys": keys, "value": values}, "rows.safetensors")

done = run("--keys", "keys.npy", "--values", "values.npy", "--servers", "3", "--out", out)
assert done.returncode == 0, done.stderr
done = run("--values", "rows.safetensors", "--servers", "3", "--out", out + "-again")
assert done.returncode == 0, done.stderr
after = table(pathlib.Path(out) / "checkpoints" / "latest")
again = table(pathlib.Path(out + "-again") / "checkpoints" / "latest")
for name in after:
    assert numpy.array_equal(after[name], again[name]), name

given = dict(zip(keys.tolist(), values))
old = {int(key): i for i, key in enumerate(before["keys"])}
assert sorted(after["keys"].tolist()) == sorted(set(old) | set(given))
for i, key in enumerate(after["keys"].tolist()):
    if key in given:
        assert numpy.array_equal(after["value"][i], given[key]), key
        assert not after["m"][i].any() and after["count"][i] == 0, key
    else:
        for name in ("value", "m", "count"):
            assert numpy.array_equal(after[name][i], before[name][old[key]]), (key, name)

# What does not fit is refused, and leaves nothing.
numpy.save("wide.npy", numpy.zeros((len(keys), dim + 1), "f4"))
numpy.save("twice.npy", numpy.concatenate([keys[:-1], keys[:1]]))
values[1, 2] = numpy.nan
numpy.save("nan.npy", values)
numpy.save("columns.npy", numpy.asfortranarray(values))
for key_file, value_file, status, text in (
    ("keys.npy", "wide.npy", 2, "columns"),
    ("twice.npy", "values.npy", 2, "given twice"),
    ("keys.npy", "nan.npy", 2, "not finite"),
    ("keys.npy", "columns.npy", 13, "row-major"),
    ("values.npy", "values.npy", 2, "are not n keys"),
    ("keys.npy", "missing.npy", 8, "missing.npy"),
):
    done = run("--keys", key_file, "--values", value_file, "--out", "refused")
    assert done.returncode == status and text in done.stderr, (key_file, value_file, done)
    assert not list(pathlib.Path("refused").glob("checkpoints/*")), "something was left"
# Keys past 2^63 are what they are where a program reads of damage: the key of the row that is named.
numpy.save("keys.npy", 2**63 + numpy.arange(4000, dtype="u8"))
numpy.save("values.npy", numpy.ones((4000, dim), "f4"))
done = run("--keys", "keys.npy", "--values", "values.npy", "--servers", "1", "--out", out + "-large")
assert done.returncode == 0, done.stderr
(shard,) = pathlib.Path(out + "-large", "checkpoints", "latest").glob("item.ps-*")
keys = safetensors.numpy.load_file(shard)["keys"]
raw = bytearray(shard.read_bytes())
at = raw.index(numpy.ones(dim, "f4").tobytes())
raw[at] ^= 1
shard.write_bytes(raw)
done = subprocess.run([weir, "verify", "--json", out + "-large"], capture_output=True, text=True)
assert done.returncode == 4, done
places = [place for place in json.loads(done.stdout)["problems"] if "first_key" in place]
assert places, done.stdout
for place in places:
    for end in ("first", "last"):
        assert int(place[end + "_key"]) == int(keys[place[end + "_row"]]), place
assert any(int(place[end]) >= 2**63 for place in places for end in ("first_key", "last_key")), places
print(f"{len(given)} rows given, {len(after['keys'])} in all")
