#!/usr/bin/env python3
"""task_metrics.py TASK_METRICS: metrics of tasks, of states merged from several, are scikit-learn's. Exit status 77: not
tried."""
import json
import subprocess
import sys

try:
    import numpy
    from sklearn import metrics
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)


def run(program, samples, parts, most):
    text = "".join(f"{task} {group} {label!r} {score!r}\n" for task, group, label, score in samples)
    done = subprocess.run([program, str(parts), str(most)], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def near(got, expected, what, tolerance=1e-7):
    assert abs(got - expected) <= tolerance * max(1.0, abs(expected)), (what, got, expected)


def check_binary(got, groups, labels, logits):
    chances = 1.0 / (1.0 + numpy.exp(-logits))
    loss = metrics.log_loss(labels, chances)
    rate = labels.mean()
    near(got["log_loss"], loss, "log loss")
    near(got["ne"], loss / metrics.log_loss(labels, numpy.full(len(labels), rate)), "NE")
    near(got["auc"], metrics.roc_auc_score(labels, logits), "AUC")
    near(got["accuracy"], metrics.accuracy_score(labels, logits > 0), "accuracy")
    near(got["calibration"], chances.sum() / labels.sum(), "calibration")
    weighted = [(mine.sum(), metrics.roc_auc_score(labels[mine], logits[mine]))
                for mine in (groups == group for group in numpy.unique(groups)) if 0 < labels[mine].sum() < mine.sum()]
    near(got["grouped_auc"], sum(w * a for w, a in weighted) / sum(w for w, _ in weighted), "grouped AUC")
    assert got["groups"] == len(weighted)


def main():
    random = numpy.random.default_rng(11)
    for n, users, digits in ((40, 3, 1), (3000, 200, 1), (20000, 700, 6)):
        groups = random.integers(0, users, n)
        logits = numpy.round(random.normal(-1.0, 1.5, n), digits).astype("f4").astype("f8")
        labels = (random.random(n) < 1.0 / (1.0 + numpy.exp(-logits))).astype("f8")
        truth = random.normal(2.0, 3.0, n).astype("f4").astype("f8")
        guess = (truth + random.normal(0.0, 1.0, n)).astype("f4").astype("f8")
        samples = [(0, g, float(y), float(z)) for g, y, z in zip(groups, labels, logits)]
        samples += [(1, g, float(y), float(z)) for g, y, z in zip(groups, truth, guess)]
        got = run(sys.argv[1], samples, 1 + n % 7, 10**6)
        check_binary(got["binary"], groups, labels, logits)
        near(got["number"]["mse"], metrics.mean_squared_error(truth, guess), "MSE")
        near(got["number"]["mae"], metrics.mean_absolute_error(truth, guess), "MAE")
        bounded = run(sys.argv[1], samples, 5, n // 10)["binary"]
        assert bounded["ne"] == got["binary"]["ne"] and bounded["grouped_share"] < 1
        exact = metrics.roc_auc_score(labels, logits)
        assert 0 < bounded["auc_error"] < 0.1 and abs(bounded["auc"] - exact) <= bounded["auc_error"] + 1e-7
    print("metrics of tasks are scikit-learn's")


main()
