#!/usr/bin/env python3
"""prepare_tables.py WEIR: what `weir prepare tables` makes of a random log in CSV and in JSON lines, read back with
Python's safetensors, is what Python's csv module finds there. Exit status 77: not tried."""
import csv
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

try:
    from safetensors import safe_open
    from safetensors.numpy import load_file
except ImportError as missing:
    print(f"skipped: {missing} (scripts/install-deps makes .venv with it)")
    sys.exit(77)

WORDS = ["", "a", "b,c", 'say "d"', "ä", "line\nbreak", "  blank "]
BOUNDS = [-1.0, 0.5, 2.0, 7.0]
SCHEMA = """
log: {{path: log.{end}, user: user, item: item, time: when, time_unit: ms}}
files:
  things: {{path: things.{end}, key: id}}
actions: {{click: click, liked: {{column: stars, at_least: 4}}}}
numbers: {{watched: {{column: watched, scale: 0.25}}}}
context: {{word: word, hour: {{of_time: hour}}, weekday: {{of_time: weekday}}}}
item_features: {{kind: {{from: things, column: kind}}, size: {{from: things, column: size, bounds: "-1 0.5 2 7"}}}}
user_features: {{town: town}}
"""


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        else:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=random.random() < 0.5) + "\n")


def strings(dictionary, name):
    offsets, content = dictionary[name + "_offsets"], dictionary[name + "_bytes"].tobytes()
    return [content[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:])]


def same_texts(ids, values, size, texts):
    """0 is the empty value, and id k stands for text k - 1 of the dictionary, each but once."""
    assert len(texts) == size - 1 == len(set(texts))
    assert all(["", *texts][i] == value for i, value in zip(ids, values))


def check(folder, out, rows, things):
    events = load_file(out / "events.safetensors")
    features = load_file(out / "features.safetensors")
    dictionary = load_file(out / "dictionary.safetensors")
    with safe_open(out / "events.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata["actions"] == "click,liked" and metadata["numbers"] == "watched"
    sizes = dict(pair.split(":") for key in ("context", "item_features", "user_features")
                 for pair in metadata[key].split(","))
    users, items = strings(dictionary, "user_id"), strings(dictionary, "item_id")
    place, words = 0, []
    for number, user in enumerate(users):
        mine = sorted((row for row in rows if row["user"] == user), key=lambda row: row["when"] // 1000)
        assert events["offsets"][number + 1] - events["offsets"][number] == len(mine)
        for row in mine:
            seconds = row["when"] // 1000
            moment = time.gmtime(seconds)
            assert items[events["items"][place] - 1] == row["item"] and events["times"][place] == seconds
            assert events["action_bits"][place] == row["click"] + 2 * (row["stars"] >= 4)
            assert abs(events["number.watched"][place] - row["watched"] / 4) < 1e-5
            assert events["context.hour"][place] == moment.tm_hour + 1
            assert events["context.weekday"][place] == moment.tm_wday + 1
            words.append(row["word"])
            place += 1
    assert place == len(rows)
    same_texts(events["context.word"], words, int(sizes["word"]), strings(dictionary, "context.word"))
    towns = [next((row["town"] for row in rows if row["user"] == user and row["town"]), "") for user in users]
    same_texts(features["user.town"], towns, int(sizes["town"]), strings(dictionary, "user.town"))
    by_id = {thing["id"]: thing for thing in things}
    kinds = [by_id.get(item, {"kind": ""})["kind"] for item in items]
    same_texts(features["item.kind"], kinds, int(sizes["kind"]), strings(dictionary, "item.kind"))
    with safe_open(out / "dictionary.safetensors", "np") as file:
        assert file.metadata()["schema"] == (folder / "schema.yaml").read_text()
    for item, got in zip(items, features["item.size"]):
        size = by_id[item]["size"] if item in by_id else ""
        assert got == (0 if size == "" else 1 + sum(size >= bound for bound in BOUNDS)), (item, size, got)


def main():
    random.seed(5)
    rows = [{"user": f"u{random.randrange(40)}", "item": f"i{random.randrange(60)}",
             "when": random.randrange(-10**12, 2 * 10**12), "click": random.randrange(2), "stars": random.randrange(6),
             "watched": round(random.uniform(-5, 5), 3), "word": random.choice(WORDS), "town": random.choice(["", "x", "y"])}
            for _ in range(2000)]
    things = [{"id": f"i{i}", "kind": random.choice(["", "k1", "k2", "k3"]),
               "size": random.choice(["", random.uniform(-3, 9), 2])} for i in range(0, 80, 2)]
    for end in ("csv", "jsonl"):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write(folder / f"log.{end}", rows)
            write(folder / f"things.{end}", things)
            (folder / "schema.yaml").write_text(SCHEMA.format(end=end))
            subprocess.run([sys.argv[1], "prepare", "tables", "--schema", folder / "schema.yaml", "--out",
                            folder / "out", "--strict"], check=True, stdout=subprocess.DEVNULL)
            check(folder, folder / "out", rows, things)
            bad = folder / "bad.yaml"
            bad.write_text("log: {path: log.csv, user: user}\n")
            refused = subprocess.run([sys.argv[1], "prepare", "tables", "--schema", bad, "--out", folder / "bad"],
                                     capture_output=True, text=True)
            assert refused.returncode != 0 and "item is missing" in refused.stderr, refused.stderr
            assert not (folder / "bad").exists()
    print(f"{len(rows)} events in CSV and JSON lines")


main()
