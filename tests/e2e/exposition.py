"""Reads a page of the Prometheus text format 0.0.4, strictly; a breach is an error.

exposition.py URL: prints {"types": {name: kind}, "samples": {name: [[labels, value], ...]}} as JSON.
"""
import json
import math
import re
import sys
import urllib.request

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


def labels_of(text):
    labels, place = {}, 0
    while place < len(text):
        match = LABEL.match(text, place)
        assert match, f"labels: {text!r}"
        assert match[1] not in labels, f"twice: {text!r}"
        labels[match[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])
        place = match.end()
    return labels


def parse(page):
    assert page.endswith("\n")
    types, helped, samples, seen, now = {}, set(), {}, set(), None
    for line in page.splitlines():
        if line.startswith("# HELP "):
            now = line.split(" ", 3)[2]
            assert now not in helped, f"HELP twice: {line!r}"
            helped.add(now)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == now and name not in types and kind in ("counter", "gauge"), line
            assert name.endswith("_total") == (kind == "counter"), line
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            assert match[1] == now, f"not under its TYPE: {line!r}"
            labels, value = labels_of(match[2] or ""), float(match[3])
            key = (now, tuple(sorted(labels.items())))
            assert key not in seen, f"twice: {line!r}"
            assert math.isfinite(value), line
            seen.add(key)
            samples.setdefault(now, []).append([labels, value])
    assert helped == set(types)
    return {"types": types, "samples": samples}


if __name__ == "__main__":
    with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers
        print(json.dumps(parse(answer.read().decode())))
