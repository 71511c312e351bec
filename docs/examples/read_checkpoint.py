#!/usr/bin/env python3
"""read_checkpoint.py WHERE [TABLE]: a checkpoint of weir with nothing but numpy and safetensors.

WHERE is the folder of a run, or of a checkpoint. A checkpoint that builds on another is read with it, as
docs/files/table.md says. All rows are in memory here; `weir inspect` and libweir do without. Exit status 77: a
package is missing."""
import json
import pathlib
import sys

try:
    import numpy
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def find_checkpoint(where):
    where = pathlib.Path(where)
    return (where if (where / "manifest.json").exists() else where / "checkpoints" / "latest").resolve()


def read_chain(folder):
    """The manifests of a checkpoint and of those that it builds on, the newest first, each with its folder."""
    chain = []
    step = None
    while step is not None or not chain:
        folder = folder if not chain else folder.parent / f"step-{step:012d}"
        manifest = json.loads((folder / "manifest.json").read_text())
        if chain and manifest["self"] != chain[-1][0]["base_self"]:
            raise ValueError(f"{folder} was replaced after others were built on it")
        chain.append((manifest, folder))
        step = manifest["base"]
    return chain


def hash64(keys):
    x = keys + numpy.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def read_table(where, table="item"):
    """All columns of a table, its rows in the order of hash64(key): {"keys": .., "value": .., ..}."""
    pieces, dead, keep_from = [], numpy.empty(0, "u8"), 0  # dead: keys that a newer file has spoken of
    for manifest, folder in read_chain(find_checkpoint(where)):
        spoken = []
        for entry in manifest["files"]:
            if not entry["name"].startswith(table + ".ps-"):
                continue
            with safetensors.safe_open(str(folder / entry["name"]), "numpy") as file:
                metadata, shard = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
            ttl = int(metadata.get("ttl", 0))
            if ttl:
                keep_from = max(keep_from, int(metadata["step"]) + 1 - ttl)
            rows = len(shard["keys"])
            live = ~numpy.isin(shard["keys"], dead) & (shard["last_step"] >= keep_from)
            columns = {n: c for n, c in shard.items() if n in ("keys", "last_step", "count") or c.ndim == 2 and len(c) == rows}
            columns.pop("admission", None)
            pieces.append({name: column[live] for name, column in columns.items()})
            spoken += [shard["keys"], shard.get("removed", numpy.empty(0, "u8"))]
        if not spoken:
            raise KeyError(f"{folder} has no table {table}")
        dead = numpy.unique(numpy.concatenate([dead, *spoken]))
    merged = {name: numpy.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    order = numpy.argsort(hash64(merged["keys"]), kind="stable")
    return {name: column[order] for name, column in merged.items()}


def read_dense(where):
    return safetensors.numpy.load_file(find_checkpoint(where) / "dense.safetensors")


if __name__ == "__main__":
    where, table = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "item"
    rows, dense = read_table(where, table), read_dense(where)
    for name, column in rows.items():
        print(f"{table} {name}: {column.dtype} {column.shape}")
    for name, values in dense.items():
        print(f"dense {name}: {values.shape}, norm {numpy.linalg.norm(values.astype('f8')):.6g}")
