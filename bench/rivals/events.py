"""Histories of a dataset that weir made (docs/files/dataset.md), with numpy alone."""
import json
import struct

import numpy


def load(folder):
    """(offsets, items, times, number of items)"""
    with open(f"{folder}/events.safetensors", "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        body = numpy.frombuffer(file.read(), dtype=numpy.uint8)

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        return body[begin:end].view(numpy.int64)

    return (tensor("offsets"), tensor("items"), tensor("times"),
            int(header["__metadata__"]["num_items"]))


def batches(folder, users, longest, seed=1):
    """Batches of `users` users for ever: histories but the last two events, and the event after."""
    offsets, items, times, _ = load(folder)
    count = len(offsets) - 1
    generator = numpy.random.default_rng(seed)
    while True:
        ids = numpy.zeros((users, longest), dtype=numpy.int64)
        when = numpy.zeros((users, longest), dtype=numpy.int64)
        lengths = numpy.zeros(users, dtype=numpy.int64)
        targets = numpy.zeros(users, dtype=numpy.int64)
        target_times = numpy.zeros(users, dtype=numpy.int64)
        for row, user in enumerate(generator.choice(count, users, replace=False)):
            end = offsets[user + 1] - 2  # the last event is the test's, the one before the target
            begin = max(offsets[user], end - longest)
            length = max(end - begin, 1)
            ids[row, :length] = items[begin:begin + length]
            when[row, :length] = times[begin:begin + length]
            lengths[row] = length
            targets[row] = items[begin + length]
            target_times[row] = times[begin + length]
        yield ids, when, lengths, targets, target_times
