"""Opens every safetensors file of a run and of its data with Python's own package and checks what a reader
would rely on. Exit status 77: the package is missing."""
import json
import pathlib
import sys

try:
    import numpy
    from safetensors import safe_open
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)


def hash64(keys):
    """SplitMix64's finaliser, as docs/files/table.md states it."""
    x = keys.astype(numpy.uint64) + numpy.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def load(path):
    with safe_open(str(path), "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


run, data = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
checkpoint = run / "checkpoints" / "latest"
manifest = json.loads((checkpoint / "manifest.json").read_text())
names = sorted(entry["name"] for entry in manifest["files"])
assert names == sorted(p.name for p in checkpoint.iterdir() if p.name != "manifest.json"), names

dense, _ = load(checkpoint / "dense.safetensors")
trainer, metadata = load(checkpoint / "trainer.safetensors")
assert int(metadata["step"]) == manifest["step"]
for name, values in dense.items():
    assert numpy.isfinite(values).all(), name
    assert trainer["m/" + name].shape == values.shape and trainer["v/" + name].shape == values.shape

keys, hashes = [], []
for name in names:
    if name.startswith("item."):
        table, _ = load(checkpoint / name)
        assert table["value"].shape[0] == len(table["keys"]) and numpy.isfinite(table["value"]).all()
        keys.append(table["keys"])
        hashes.append(hash64(table["keys"]))
hashes = numpy.concatenate(hashes)
assert (hashes[1:] > hashes[:-1]).all(), "rows are not in the order of their hashes"

events, metadata = load(data / "events.safetensors")
offsets = events["offsets"]
assert offsets[0] == 0 and offsets[-1] == len(events["items"]) == len(events["times"])
assert set(numpy.concatenate(keys).tolist()) <= set(range(1, int(metadata["num_items"]) + 1))
print(f"{len(names)} files, {len(hashes)} rows, {len(events['items'])} events")
