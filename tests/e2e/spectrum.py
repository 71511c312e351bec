"""The spectrum of an embedding table by numpy's SVD, against what `weir inspect spectrum` says.

spectrum.py CHECKPOINT TABLE JSON [PCA]: CHECKPOINT the folder of a full one of float32, JSON what was printed, PCA
what --output wrote. Exit status 77: not tried."""
import json
import math
import pathlib
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

TYPES = {"I64": "<i8", "F64": "<f8", "F32": "<f4", "U8": "u1", "U64": "<u8", "U16": "<u2"}


def read(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(raw[8 + size + begin : 8 + size + end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def close(got, expected, tolerance):
    assert np.shape(got) == np.shape(expected), (np.shape(got), np.shape(expected))
    difference = np.abs(np.asarray(got) - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), f"off by {difference}"


checkpoint, table, said = pathlib.Path(sys.argv[1]), sys.argv[2], json.load(open(sys.argv[3]))
shards = [read(path) for path in sorted(checkpoint.glob(f"{table}.ps-*.safetensors"))]
keys = np.concatenate([shard["keys"] for shard in shards])
rows = np.concatenate([shard["value"] for shard in shards]).astype(np.float64)
mean = rows.mean(axis=0)
seen = rows - mean if said["centered"] else rows
sigma, directions = np.linalg.svd(seen, full_matrices=False)[1:]

assert (said["rows"], said["dim"], said["skipped"]) == (*rows.shape, 0)
close(said["singular_values"], sigma, 1e-9)
share = sigma / sigma.sum()
close(said["effective_rank"], math.exp(-(share * np.log(share)).sum()), 1e-9)
close(said["information_abundance"], sigma.sum() / sigma[0], 1e-9)
close(said["condition"], sigma[0] / sigma[-1], 1e-6)
energy = np.cumsum(sigma**2) / (sigma**2).sum()
close(said["energy"], energy, 1e-9)
assert said["needed_90"] == 1 + int((energy < 0.9).sum())

if len(sys.argv) > 4:
    pca = read(pathlib.Path(sys.argv[4]))
    components = pca["components"]
    close(pca["mean"], mean, 1e-9)
    close(components @ components.T, np.eye(len(components)), 1e-9)
    assert np.array_equal(pca["keys"], keys)
    for k, component in enumerate(components):
        assert component[np.abs(component).argmax()] > 0
        # Directions of singular values that are near each other turn easily: by the gap.
        gap = min(abs(sigma[k] - sigma[j]) for j in range(len(sigma)) if j != k) / sigma[0]
        assert 1 - abs(component @ directions[k]) < 1e-18 / gap**2 + 1e-12, (k, gap)
    close(pca["projection"], seen @ components.T, 1e-6)
print(f"{table}: as numpy's")
