#!/usr/bin/env python3
"""safetensors_copy.py TENSOR_COPY: what Python's safetensors writes, weir reads; what weir writes, Python
reads: the same names, types, shapes, bytes and metadata. Exit status 77: not tried."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
SHAPES = [(), (0,), (1,), (7,), (3, 5), (0, 4), (2, 3, 4), (1, 2, 1, 2, 1, 2, 1, 2)]


def make_tensors(seed):
    random = numpy.random.default_rng(seed)
    tensors = {}
    for kind in TYPES:
        for shape in SHAPES:
            count = int(numpy.prod(shape, dtype=int)) * numpy.dtype(kind).itemsize
            content = random.integers(0, 256, count, dtype="u1").tobytes()
            tensors[f"{kind}/ä \"{shape}\""] = numpy.frombuffer(content, kind).reshape(shape)
    return tensors


def data_offset(path):
    """Where the values begin, after checking that the header is what its length says."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    json.loads(content[8 : 8 + length])
    return 8 + length


def check(tool, folder, tensors, metadata):
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    safetensors.numpy.save_file(tensors, source, metadata)
    subprocess.run([tool, source, target], check=True)
    assert data_offset(target) % 64 == 0, data_offset(target)
    with safetensors.safe_open(target, framework="numpy") as copied:
        assert set(copied.keys()) == set(tensors), sorted(copied.keys())
        assert copied.metadata() == metadata, copied.metadata()
        for name, expected in tensors.items():
            found = copied.get_tensor(name)
            assert found.dtype == expected.dtype, (name, found.dtype)
            assert found.shape == expected.shape, (name, found.shape)
            assert found.tobytes() == expected.tobytes(), name


def main():
    tool = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tensors = make_tensors(1)
        check(tool, folder, tensors, {"kind": "test", "text": "two\nlines, \"quoted\", ä"})
        check(tool, folder, {"alone": numpy.arange(5, dtype="i8")}, None)
        check(tool, folder, {}, None)
        # A damaged file is refused with a sentence that names it, and nothing is written.
        broken = folder / "broken.safetensors"
        safetensors.numpy.save_file(tensors, broken)
        broken.write_bytes(broken.read_bytes()[:-1])
        result = subprocess.run([tool, broken, folder / "none"], capture_output=True, text=True)
        assert result.returncode == 4 and "broken.safetensors" in result.stderr, result
        assert not (folder / "none").exists()
    print(f"{len(tensors)} tensors there and back")


main()
