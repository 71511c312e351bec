"""read_events.py RUN: the event files of a run, read by a program of our own, agree with metrics.jsonl, line by line;
TensorBoard's own reader, where it is installed, says the same."""
import glob
import json
import os
import struct
import sys

run = sys.argv[1]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(data):
    """(number, wire type, value) of a protobuf message."""
    place = 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value = data[place:place + size]
            assert len(value) == size
            place += size
        yield key >> 3, value


def events(path):
    with open(path, "rb") as file:
        data = file.read()
    place = 0
    while place < len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        assert struct.unpack_from("<I", data, place + 8)[0] == masked(data[place:place + 8])
        event = data[place + 12:place + 12 + size]
        assert struct.unpack_from("<I", data, place + 12 + size)[0] == masked(event)
        place += 16 + size
        read = {"step": 0, "scalars": {}}
        for number, value in fields(event):
            if number == 1:
                (read["time"],) = struct.unpack("<d", value)
            elif number == 2:
                read["step"] = value
            elif number == 3:
                read["version"] = value.decode()
            elif number == 7:
                read["start"] = dict(fields(value)) == {1: 1}
            elif number == 5:
                for _, scalar in fields(value):
                    parts = dict(fields(scalar))
                    (read["scalars"][parts[1].decode()],) = struct.unpack("<f", parts[2])
        yield read


assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
seen = {}  # (tag, step): value
files = sorted(glob.glob(os.path.join(run, "tensorboard", "events.out.tfevents.*")))
for path in files:
    all_of = list(events(path))
    assert all_of[0]["version"] == "brain.Event:2" and all_of[1]["start"]
    seen = {key: value for key, value in seen.items() if key[1] < all_of[1]["step"]}
    for event in all_of[2:]:
        for tag, value in event["scalars"].items():
            seen[tag, event["step"]] = value
    times = [event["time"] for event in all_of]
    assert times == sorted(times)

wanted, kinds = {}, set()
with open(os.path.join(run, "metrics.jsonl")) as lines:
    for line in map(json.loads, lines):
        kinds.add(line["kind"])
        if line["kind"] in ("start", "end"):
            continue
        group = line["split"] if line["kind"] == "eval" else line["kind"]
        for name, value in line.items():
            if name not in ("t", "step") and isinstance(value, (int, float)) and not isinstance(value, bool):
                (wanted[f"{group}/{name}", line["step"]],) = struct.unpack("<f", struct.pack("<f", value))
assert {"train", "eval", "checkpoint"} <= kinds
# metrics.jsonl keeps nine digits, which is one more than a float32 has.
assert set(seen) == set(wanted), set(seen) ^ set(wanted)
for key, value in wanted.items():
    assert abs(seen[key] - value) <= 1.2e-7 * abs(value), (key, seen[key], value)
print(f"{len(seen)} scalars in {len(files)} files")

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    sys.exit(0)
accumulator = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
accumulator.Reload()
theirs = {(tag, scalar.step): scalar.value for tag in accumulator.Tags()["scalars"] for scalar in accumulator.Scalars(tag)}
assert theirs == seen, set(theirs) ^ set(seen)
print("TensorBoard's reader agrees")
