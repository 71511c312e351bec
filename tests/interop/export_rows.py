#!/usr/bin/env python3
"""export_rows.py WEIR RUN EXAMPLE: what `weir inspect export` writes of a run is what docs/examples reads of it with
numpy and safetensors alone, in every format, whole and in part. Exit status 77: not tried."""
import csv
import importlib.util
import pathlib
import subprocess
import sys

try:
    import numpy
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

weir, run, example = sys.argv[1:]
spec = importlib.util.spec_from_file_location("read_checkpoint", example)
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
rows = reader.read_table(run)
assert len(rows["keys"]) > 100 and set(rows) == {"keys", "last_step", "count", "value", "m", "v"}, set(rows)
hashes = reader.hash64(rows["keys"])
assert (hashes[1:] > hashes[:-1]).all()


def export(out, *words, status=0):
    done = subprocess.run([weir, "inspect", "export", run, "--out", out, *words], capture_output=True, text=True)
    assert done.returncode == status, (words, done)
    return done.stdout + done.stderr


def same(found, expected):
    for name in found:
        if name != "block_checksums":
            assert found[name].dtype == expected[name].dtype and numpy.array_equal(found[name], expected[name]), name


export("all.safetensors", "--state")
everything = safetensors.numpy.load_file("all.safetensors")
assert set(everything) == set(rows) | {"block_checksums"}
same(everything, rows)
export("values.safetensors")
values = safetensors.numpy.load_file("values.safetensors")
assert set(values) == {"keys", "last_step", "count", "value", "block_checksums"}
same(values, rows)

export("all", "--format", "npy")
same({"keys": numpy.load("all.keys.npy"), "value": numpy.load("all.values.npy")}, rows)
export("all.csv", "--format", "csv")
with open("all.csv", newline="") as file:
    table = list(csv.reader(file))
assert table[0][:4] == ["key", "last_step", "count", "v0"]
numbers = numpy.array([line[3:] for line in table[1:]], "f8").astype("f4")
assert numpy.array_equal(numbers, rows["value"])
assert [int(line[0]) for line in table[1:]] == rows["keys"].tolist()

export("part.safetensors", "--slots", "4096-9000")
slots = hashes >> numpy.uint64(50)
inside = (slots >= 4096) & (slots < 9000)
assert inside.any() and not inside.all()
same(safetensors.numpy.load_file("part.safetensors"), {name: column[inside] for name, column in rows.items()})

wanted = [int(key) for key in rows["keys"][::9][::-1]]
pathlib.Path("keys.txt").write_text("".join(f"{key}\n" for key in [wanted[0], 999999999, *wanted[1:]]))
assert "1 keys have no row" in export("some", "--keys", "keys.txt", "--format", "npy")
at = {int(key): i for i, key in enumerate(rows["keys"])}
assert numpy.load("some.keys.npy").tolist() == wanted
assert numpy.array_equal(numpy.load("some.values.npy"), rows["value"][[at[key] for key in wanted]])

pathlib.Path("wrong.txt").write_text("12x\n")
assert "is no key" in export("refused", "--keys", "wrong.txt", status=2)
export("refused", "--format", "xml", status=2)
export("refused.csv", "--format", "csv", "--state", status=2)
export("no/such/folder.csv", "--format", "csv", status=8)
assert not list(pathlib.Path(".").glob("refused*")) and not list(pathlib.Path(".").glob("*.tmp.*"))
print(f"{len(rows['keys'])} rows as safetensors, npy and csv are those of the files")
