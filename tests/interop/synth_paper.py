#!/usr/bin/env python3
"""synth_paper.py WEIR: records of `weir synth --paper`, read back with Python's safetensors, are spread as those that
plain Python draws by the text of the paper's appendix C: two samples of 4,000 records are compared in categories a
record, share of the first, changes of category, different items, and how far into the released items they reach. How often
the first two events are of one category is compared with its expectation. Exit status 77: not tried."""
import bisect
import math
import random
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from safetensors.numpy import load_file
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

RECORDS, ITEMS, CATEGORIES, LENGTH = 4000, 2000, 20, 64


def released_by(record):
    return int((0.4 + 0.6 * record / RECORDS) * ITEMS)


def draw_record(record, members):
    """One record as lists of categories and items; members: the sorted items, from 0, of each category."""
    kinds = random.sample(range(CATEGORIES), random.randint(1, 5))
    prior = [random.random() for _ in kinds]
    alpha = random.uniform(1, 500)
    so_far, items = [], []
    for n in range(1, LENGTH + 1):
        if random.random() < alpha / (alpha + n - 1):
            so_far.append(random.choices(kinds, prior)[0])
        else:
            so_far.append(random.choice(so_far))
        mine = members[so_far[-1]]
        items.append(mine[random.randrange(bisect.bisect_left(mine, released_by(record)))])
    return so_far, items


def describe(record, kinds, items):
    """Statistics of a record that depend on its numbering neither of categories nor of items."""
    return {"categories": len(set(kinds)), "most frequent": max(kinds.count(k) for k in set(kinds)),
            "like the first": kinds.count(kinds[0]), "changes": sum(a != b for a, b in zip(kinds, kinds[1:])),
            "like the last": kinds[-8:].count(kinds[-1]), "different items": len(set(items)),
            "reach": max(items) / released_by(record), "middle": sorted(items)[LENGTH // 2] / released_by(record)}


def distance(a, b):
    """Kolmogorov and Smirnov's: the most by which the two samples' distribution functions differ."""
    a, b = sorted(a), sorted(b)
    return max(abs(bisect.bisect_right(a, x) / len(a) - bisect.bisect_right(b, x) / len(b)) for x in {*a, *b})


def read(weir, out, records=RECORDS, length=LENGTH, seed=1):
    """The events as numpy arrays, and the category of each item."""
    subprocess.run([weir, "synth", "--paper", "--users", str(records), "--items", str(ITEMS), "--clusters", str(CATEGORIES),
                    "--length", str(length), "--seed", str(seed), "--out", out], check=True, stdout=subprocess.DEVNULL)
    dictionary = load_file(f"{out}/dictionary.safetensors")
    offsets, text = dictionary["item_id_offsets"], dictionary["item_id_bytes"].tobytes()
    names = [text[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:])]
    assert len(names) == len(set(names)) == ITEMS
    return load_file(f"{out}/events.safetensors"), [int(name[1:].split("-")[0]) for name in names]  # "c3-17": 3


def check_concentration(events, kind):
    """Two events of a record agree when the second repeats the first, with probability E[1 / (alpha + 1)], or else by
    the prior: E[sum of squared shares] of 1 to 5 normalised uniform numbers."""
    kinds = np.array(kind)[events["items"] - 1].reshape(-1, 2)
    agree = (kinds[:, 0] == kinds[:, 1]).mean()
    repeats = math.log(501 / 2) / 499
    draws = np.random.default_rng(3)
    squares = 0.0
    for count in range(1, 6):
        prior = draws.random((200000, count))
        squares += ((prior / prior.sum(1, keepdims=True)) ** 2).sum(1).mean() / 5
    expected = repeats + (1 - repeats) * squares
    bound = 4 * math.sqrt(expected * (1 - expected) / len(kinds))  # of alpha up to 250 it would be 0.0036 off
    print(f"two agree        {agree:.4f}, expected {expected:.4f}, bound {bound:.4f}")
    assert abs(agree - expected) < bound, "the concentration or the prior is distributed otherwise"


def main():
    random.seed(11)
    with tempfile.TemporaryDirectory() as name:
        events, kind = read(sys.argv[1], f"{name}/a")
        again, _ = read(sys.argv[1], f"{name}/b")
        other, _ = read(sys.argv[1], f"{name}/c", seed=2)
        check_concentration(*read(sys.argv[1], f"{name}/d", records=400000, length=2))
    assert (events["items"] == again["items"]).all() and (events["items"] != other["items"]).mean() > 0.9
    assert events["offsets"].tolist() == [r * LENGTH for r in range(RECORDS + 1)]
    assert (events["times"][1:] > events["times"][:-1]).all(), "records are in the order of time"
    assert sorted(set(kind)) == list(range(CATEGORIES))
    members = [[i for i in range(ITEMS) if kind[i] == c] for c in range(CATEGORIES)]

    ours, plain = [], []
    highest = 0
    for r in range(RECORDS):
        items = [int(i) - 1 for i in events["items"][r * LENGTH:(r + 1) * LENGTH]]
        assert 0 <= min(items) and max(items) < released_by(r), f"record {r} has an item that is not released"
        highest = max(highest, max(items))
        ours.append(describe(r, [kind[i] for i in items], items))
        plain.append(describe(r, *draw_record(r, members)))
    assert highest >= ITEMS - 20, "what is released last is used"
    bound = math.sqrt(-math.log(1e-4 / 2) / 2) * math.sqrt(2 / RECORDS)  # passed by chance in one of 10,000
    for statistic in ours[0]:
        apart = distance([o[statistic] for o in ours], [p[statistic] for p in plain])
        print(f"{statistic:16} {apart:.4f} of {bound:.4f}")
        assert apart < bound, f"{statistic} is distributed otherwise"


main()
