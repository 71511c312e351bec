"""The linear baselines by numpy in float64, from their definitions, against what the programs say.

baselines.py DATA METHOD PARAMETER HOLDOUT JSON [WEIGHTS]: DATA a prepared folder, JSON what weir-baseline
printed, WEIGHTS what --output wrote. Exit status 77: not tried."""
import json
import math
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

TYPES = {"I64": "<i8", "F64": "<f8", "F32": "<f4", "U8": "u1", "U64": "<u8"}
CUTOFFS = (1, 10, 50, 200)
MAX_LENGTH = 200


def read(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(raw[8 + size + begin : 8 + size + end], TYPES[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors, header.get("__metadata__", {})


def ease(users, training, items, strength):
    x = np.zeros((len(users), items + 1))
    for row, events in zip(x, training):
        row[events] = 1.0
    kept = np.flatnonzero(x.any(axis=0))
    inverse = np.linalg.inv(x[:, kept].T @ x[:, kept] + strength * np.eye(len(kept)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    whole = np.zeros((items + 1, items + 1))
    whole[np.ix_(kept, kept)] = weights
    return whole, kept


def knn(users, training, items, neighbors):
    x = np.zeros((len(users), items + 1))
    for row, events in zip(x, training):
        row[events] = 1.0
    common = x.T @ x
    owners = np.diag(common).copy()
    weights = np.zeros_like(common)
    for j in range(items + 1):
        near = [i for i in range(items + 1) if i != j and common[i, j] > 0]
        cosines = {i: common[i, j] / math.sqrt(owners[i] * owners[j]) for i in near}
        near.sort(key=lambda i: (-cosines[i], i))
        for i in near[: int(neighbors)] if neighbors else near:
            weights[i, j] = cosines[i]
    return weights


def markov(users, training, items, smoothing):
    moves, events = np.zeros((items + 1, items + 1)), np.zeros(items + 1)
    for sequence in training:
        np.add.at(events, sequence, 1)
        np.add.at(moves, (sequence[:-1], sequence[1:]), 1)
    return moves, smoothing * (events / events.sum())


def ranks(users, items, score, after):
    """Of each user the best and the worst rank that rounding of equal scores can give."""
    out = []
    for events in users:
        if len(events) < after + 2:
            continue
        target = len(events) - after - 1
        history = events[max(0, target - MAX_LENGTH) : target]
        scores = score(history)
        rank = np.ones(items + 1, bool)
        rank[0] = False
        rank[history] = False
        rank[events[target]] = False
        close = 1e-11 * max(1e-3, abs(scores).max())
        own = scores[events[target]]
        out.append([1 + int((scores[rank] >= own + way * close).sum()) for way in (1, -1)])
    return out


def metrics(places):
    out = {"users": len(places), "mrr": sum(1 / p for p in places) / len(places)}
    for k in CUTOFFS:
        out[f"hr@{k}"] = sum(p <= k for p in places) / len(places)
        out[f"ndcg@{k}"] = sum(1 / math.log2(p + 1) for p in places if p <= k) / len(places)
    return out


def main():
    folder, method, parameter, holdout, answer = sys.argv[1:6]
    tensors, metadata = read(f"{folder}/events.safetensors")
    items, offsets = int(metadata["num_items"]), tensors["offsets"]
    users = [tensors["items"][a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    training = [events[: max(0, len(events) - int(holdout))] for events in users]
    said = json.load(open(answer))
    strength = float(parameter)
    assert said["baseline"] == method
    if method == "markov":
        moves, base = markov(users, training, items, strength)
        score = lambda history: moves[history[-1]] + base
    else:
        if method == "ease":
            weights, kept = ease(users, training, items, strength)
        else:
            weights = knn(users, training, items, strength)

        def score(history):
            total = np.zeros(items + 1)
            for item in np.unique(history):
                total += weights[item]
            return total

    if len(sys.argv) > 6:
        file, _ = read(sys.argv[6])
        assert np.array_equal(file["items"], kept)
        difference = np.abs(file["weights"] - weights[np.ix_(kept, kept)]).max()
        assert difference < 1e-11, f"weights differ by {difference}"
    for split, after in (("test", 0), ("validation", 1)):
        if split in said["splits"]:
            best, worst = zip(*ranks(users, items, score, after))
            assert sum(a != b for a, b in zip(best, worst)) < len(users) / 4 or method == "markov"
            if method == "markov":  # whole counts: nothing is rounded, and equal scores are equal
                best = worst
            best, worst = metrics(best), metrics(worst)
            for name, got in said["splits"][split].items():
                assert worst[name] - 1e-7 <= got <= best[name] + 1e-7, (split, name, got, worst[name], best[name])
    print(f"{method} {parameter}: as numpy's")


main()
