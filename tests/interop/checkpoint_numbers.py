#!/usr/bin/env python3
"""checkpoint_numbers.py WEIR WHERE: Python's safetensors opens every file of a checkpoint, and what `weir
inspect --json` says of tables and parameters is what numpy computes. Exit status 77: not tried."""
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


def near(found, expected):
    return abs(found - expected) <= 1e-9 + 1e-6 * abs(expected)


def check_table(table, files):
    shards = [files[shard["file"]] for shard in table["shards"]]
    assert [len(shard["keys"]) for shard in shards] == [s["rows"] for s in table["shards"]]
    value = numpy.concatenate([shard["value"] for shard in shards]).astype("f8")
    norms = numpy.linalg.norm(value, axis=1)
    assert value.shape == (table["rows"], table["dim"]), (value.shape, table)
    for name, expected in (("min", norms.min()), ("mean", norms.mean()), ("max", norms.max())):
        assert near(table["norm"][name], expected), (name, table["norm"], expected)
    for name, field in table["fields"].items():
        floats = numpy.concatenate([shard[name] for shard in shards]).astype("f8")
        assert floats.shape[1] == field["width"], (name, field)
        assert near(field["norm"], numpy.linalg.norm(floats)), (name, field)
        assert near(field["min"], floats.min()) and near(field["max"], floats.max()), (name, field)
        assert field["nan"] == numpy.isnan(floats).sum()


def main():
    weir, where = sys.argv[1:]
    result = subprocess.run([weir, "inspect", where, "--json"], check=True, capture_output=True)
    survey = json.loads(result.stdout)
    folder = pathlib.Path(survey["folder"])
    files = {entry["name"]: safetensors.numpy.load_file(folder / entry["name"])
             for entry in survey["files"]}
    assert survey["tables"] and survey["dense"], survey
    for table in survey["tables"]:
        check_table(table, files)
    dense = files["dense.safetensors"]
    assert {entry["name"] for entry in survey["dense"]} == set(dense)
    for entry in survey["dense"]:
        values = dense[entry["name"]].astype("f8")
        assert list(values.shape) == entry["shape"], entry
        assert near(entry["norm"], numpy.linalg.norm(values)), entry
        assert near(entry["min"], values.min()) and near(entry["max"], values.max()), entry
    print(f"{len(files)} files, {len(survey['tables'])} tables, {len(survey['dense'])} parameters")


main()
