#!/usr/bin/env python3
"""eval_diff.py WEIR: paired tests and intervals of `weir eval-diff` are SciPy's. Exit status 77: not tried."""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy
    from scipy import stats
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)


def write(path, users, targets, ranks):
    parts = {"users": users, "targets": targets, "ranks": ranks}
    header, at = {"__metadata__": {"format": "weir-user-results", "version": "1", "split": "test", "source": "made"}}, 0
    for name, values in parts.items():
        header[name] = {"dtype": "I64", "shape": [len(values)], "data_offsets": [at, at + 8 * len(values)]}
        at += 8 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in parts.values():
            file.write(numpy.asarray(values, dtype="<i8").tobytes())


VALUES = {
    "hr@1": lambda r: (r <= 1).astype(float),
    "hr@10": lambda r: (r <= 10).astype(float),
    "hr@50": lambda r: (r <= 50).astype(float),
    "ndcg@10": lambda r: numpy.where(r <= 10, 1 / numpy.log2(r + 1), 0.0),
    "mrr": lambda r: 1 / r,
}


def near(got, expected, tolerance, what):
    assert abs(got - expected) <= tolerance * max(1e-300, abs(expected)), (what, got, expected)


def check(weir, folder, count, better, seed):
    random = numpy.random.default_rng(seed)
    users = numpy.sort(random.choice(10 * count, size=count, replace=False))
    a = numpy.maximum(1, (1000 ** random.random(count)).astype(int))
    b = numpy.maximum(1, (a * numpy.exp(random.normal(-better, 0.7, count))).astype(int))
    alone = random.random(count) < 0.1  # users that the first has not
    write(folder + "/a", users[~alone], users[~alone] + 1, a[~alone])
    write(folder + "/b", users, users + 1, b)
    samples = 4000
    done = subprocess.run([weir, "eval-diff", "--json", "--samples", str(samples), folder + "/a", folder + "/b"],
                          capture_output=True, text=True, check=True)
    got = json.loads(done.stdout)
    assert (got["users"], got["only_first"], got["only_second"]) == ((~alone).sum(), 0, alone.sum()), got
    for name, value in VALUES.items():
        first, second, metric = value(a[~alone]), value(b[~alone]), got["metrics"][name]
        d = second - first
        near(metric["first"], first.mean(), 1e-12, name)
        near(metric["gain"], d.mean(), 1e-9, name)
        t = stats.ttest_rel(second, first)
        near(metric["t"], t.statistic, 1e-9, name)
        near(metric["p_t"], t.pvalue, 1e-7, name)
        w = stats.wilcoxon(d, zero_method="wilcox", method="asymptotic", correction=False)
        near(metric["wilcoxon"], w.statistic, 1e-12, name)
        near(metric["p_wilcoxon"], w.pvalue, 1e-9, name)
        flips = stats.permutation_test((d,), lambda x, axis: abs(numpy.sum(x, axis=axis)), permutation_type="samples",
                                       n_resamples=samples, alternative="greater", rng=numpy.random.default_rng(seed))
        chance = max(flips.pvalue, metric["p_sign_flips"])
        spread = (2 * chance * (1 - chance) / samples) ** 0.5
        assert abs(metric["p_sign_flips"] - flips.pvalue) <= 5 * spread + 3 / samples, (name, metric, flips.pvalue)
        interval = stats.bootstrap((d,), numpy.mean, n_resamples=samples, method="percentile",
                                   rng=numpy.random.default_rng(seed)).confidence_interval
        for end, expected in (("low", interval.low), ("high", interval.high)):
            assert abs(metric[end] - expected) <= 0.2 * d.std() / len(d) ** 0.5, (name, end, metric[end], expected)


with tempfile.TemporaryDirectory() as where:
    for number, (count, better) in enumerate([(60, 0.0), (400, 0.1), (3000, 0.02)]):
        check(sys.argv[1], where, count, better, number)
    write(where + "/c", [1, 2], [5, 7], [1, 1])
    write(where + "/d", [1, 2], [5, 8], [1, 1])
    refused = subprocess.run([sys.argv[1], "eval-diff", where + "/c", where + "/d"], capture_output=True, text=True)
    assert refused.returncode == 2 and "different targets" in refused.stderr, refused
    os.truncate(where + "/d", 100)
    refused = subprocess.run([sys.argv[1], "eval-diff", where + "/c", where + "/d"], capture_output=True, text=True)
    assert refused.returncode not in (0, 2) and "d" in refused.stderr, refused
