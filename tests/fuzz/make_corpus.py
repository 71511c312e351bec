#!/usr/bin/env python3
"""Writes the corpora of tests/fuzz/ that are made, not collected. Needs nothing but Python."""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(folder, name, content):
    path = CORPUS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def safetensors(header, size, padding=0):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * padding
    return struct.pack("<Q", len(text)) + text + bytes(i % 251 for i in range(size))


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_tensor_files():
    good = {
        "__metadata__": {"kind": "test"},
        "w": tensor("F32", [2, 3], 0, 24),
        "n": tensor("I64", [], 24, 32),
        "z": tensor("U8", [0, 4], 32, 32),
        "b": tensor("BF16", [3], 32, 38),
    }
    write("tensor_file", "good", safetensors(good, 38, padding=5))
    write("tensor_file", "empty", safetensors({}, 0))
    write("tensor_file", "overlap", safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, 6))
    write("tensor_file", "hole", safetensors({"a": tensor("U8", [2], 2, 4)}, 4))
    write("tensor_file", "overflow", safetensors({"a": tensor("F64", [1 << 62, 8], 0, 8)}, 8))
    write("tensor_file", "length_2_63", struct.pack("<Q", 1 << 63) + b"{}")
    write("tensor_file", "nested", safetensors(b"[" * 3000, 0))


def make_manifests():
    """Bodies without the closing brace: the target adds the line with the checksum, and the brace."""
    whole = {
        "format": 1, "base": None, "weir": "0.1.0", "step": 12000, "epoch": 3, "job": "00000000deadbeef",
        "ps": 2, "workers": 2, "created": 1763847000.5, "metrics": {"ndcg@10": 0.172},
        "files": [
            {"name": "dense.safetensors", "size": 4096, "xxh3": "0123456789abcdef"},
            {"name": "item.ps-0000-of-0002.safetensors", "size": 0, "xxh3": "2d06800538d394c2"},
        ],
        "config": "model:\n  heads: 2\n",
    }
    write("manifest", "whole", json.dumps(whole, indent=2)[:-2].encode())
    write("manifest", "plain", json.dumps({**whole, "metrics": None, "files": []})[:-1].encode())
    traversal = [{"name": "../../etc/passwd", "size": 1, "xxh3": "0123456789abcdef"}]
    write("manifest", "traversal", json.dumps({**whole, "files": traversal})[:-1].encode())
    write("manifest", "delta", json.dumps({**whole, "base": "step-000000000001"})[:-1].encode())


def make_configs():
    write("config", "whole", b"""# comment
data:
  path: "data/a \\"b\\" \\u00e9"
model: {heads: 4, time_bias: false, input_dropout: 0.25}
sparse:
  optimizer: rowwise_adagrad
  learning_rate: 2.5e-2
eval:
  metric: hr@200
  validation: true
  patience: 3
""")
    write("config", "set", b"model.heads=8\n")
    write("config", "set_text", b"data.path=a=b c\n")
    write("config", "alias", b"model: &m\n  heads: 1\nloss: *m\n")
    write("config", "documents", b"model:\n  heads: 1\n---\nmodel:\n  heads: 2\n")
    write("config", "nested", b"model:\n  heads: [[[[{a: b}]]]]\n")
    write("config", "tab", b"model:\n\theads: 1\n")


def make_csvs():
    """The first byte chooses delimiter and wanted fields, see fuzz_csv.c."""
    write("csv", "plain", b"\x00user,item,time\r\n1,2,978300760\r\n3,4,978300761.5\r\n")
    write("csv", "quotes", b'\x08"a,b","say ""hi""",1\n"two\nlines",2,3\n\n"x"y,1\n')
    write("csv", "open", b'\x04a,"b\nc,d\n"e')
    write("csv", "tabs", b"\x02196\t242\t3\t881250949\n")
    write("csv", "mark", b"\x00\xef\xbb\xbfa,b\n")
    write("csv", "gzip", b"\x00\x1f\x8b\x08\x00")


def frame(kind, source, step, keys=(), floats=(), count=None):
    payload = struct.pack(f"<{len(keys)}Q", *keys) + struct.pack(f"<{len(floats)}f", *floats)
    count = count if count is not None else len(keys) + len(floats) // 2
    return bytes([kind, source, step, count, len(payload) // 4]) + payload


def make_server_frames():
    """Frames to a server, see fuzz_server.c: 1 pull_req, 3 push_req, 4 peek_req; rows of two floats."""
    pulls = frame(1, 1, 1, [5, 6, 7]) + frame(1, 2, 1, [7, 8])
    pushes = frame(3, 2, 1, floats=[1, 2, 3, 4]) + frame(3, 1, 1, floats=[1, -1, 0, 0.5, 2, 2])
    write("server", "step", pulls + pushes)
    write("server", "two_steps", pulls + pushes + frame(1, 1, 2, [9]) + frame(1, 2, 2) +
          frame(3, 1, 2, floats=[1, 1]) + frame(3, 2, 2))
    write("server", "ahead", frame(1, 1, 1, [5]) + frame(3, 1, 1, floats=[1, 2]) + frame(1, 1, 2, [5]) +
          frame(4, 1, 1, [5]) + frame(1, 2, 1) + frame(3, 2, 1))
    write("server", "peek", frame(4, 1, 0, [1, 1, 2]) + frame(4, 2, 0))
    write("server", "not_finite", pulls + frame(3, 2, 1, floats=[float("nan"), 2, 3, 4]) +
          frame(3, 1, 1, floats=[float("inf")] * 6))
    write("server", "twice", frame(1, 1, 1, [5, 6, 5]))
    write("server", "stranger", frame(1, 7, 1, [5]))
    write("server", "count", frame(1, 1, 1, [5, 6], count=200))


def hash64(key):
    mask = 2**64 - 1
    x = (key + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def make_client_answers():
    """Calls of a client and answers to it, see fuzz_client.c: 0 begins a pull, 1 finishes, 2 pushes, 3 peeks.
    Rows of table 0 are one float, of table 1 two."""
    numbers = [0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 32, 48, 64, 65, 80]

    def shape(ps, ahead, posts=255):
        return bytes([(ps - 1) | ahead << 2, posts])

    def begin(a, b):
        return bytes([0, numbers.index(a) | numbers.index(b) << 4])

    def widths(ps, server, a, b):
        """Floats of each row that a server has in a pull."""
        keys = [(i * 3 + k, k) for k, n in enumerate((a, b)) for i in range(n)]
        return [k + 1 for key, k in keys if ((hash64(key) >> 50) * ps) // 16384 == server]

    def reply(server, step, flags, rows, bits=None, sequence=0, count=None, cut=0):
        floats = [float(i % 50) for i in range(sum(rows))]
        payload = struct.pack("<%dQ" % len(bits or []), *(bits or [])) + struct.pack("<%df" % len(floats), *floats)
        payload = payload[:len(payload) - cut]
        return bytes([server + 1, flags, step, sequence, count if count is not None else len(rows),
                      len(payload) // 4]) + payload

    def parts(rows, every):
        chosen = [i % every == 0 for i in range(len(rows))]
        words = [0] * ((len(rows) + 63) // 64)
        for i, set_ in enumerate(chosen):
            words[i // 64] |= set_ << (i % 64)
        return [r for r, c in zip(rows, chosen) if c], [r for r, c in zip(rows, chosen) if not c], words

    def split(server, step, rows, every=3):
        first, rest, words = parts(rows, every)
        return reply(server, step, 1, first, words), reply(server, step, 2, rest)

    one, two = widths(1, 0, 5, 3), [widths(2, s, 12, 9) for s in range(2)]
    more = [widths(2, s, 4, 7) for s in range(2)]
    long = widths(1, 0, 65, 0)
    write("client", "whole", shape(1, 0) + begin(5, 3) + b"\1" + reply(0, 5, 0, one) + b"\2" + begin(0, 0) +
          b"\1" + reply(0, 6, 0, []) + b"\2")
    first, rest = split(0, 5, long)
    write("client", "parts", shape(1, 0) + begin(65, 0) + b"\1" + first + rest + b"\2")
    first0, rest0 = split(0, 6, more[0], 2)
    first1, rest1 = split(1, 6, more[1], 2)
    write("client", "ahead", shape(2, 1) + begin(12, 9) + begin(4, 7) + b"\1" + first1 + reply(1, 5, 0, two[1]) +
          rest1 + first0 + reply(0, 5, 0, two[0]) + b"\2\1" + rest0 + b"\2")
    write("client", "twice", shape(2, 1) + begin(12, 9) + b"\1" + reply(0, 5, 0, two[0]) + reply(0, 5, 0, two[0]))
    write("client", "second_first", shape(1, 0) + begin(65, 0) + b"\1" + first + split(0, 5, long)[0])
    write("client", "tail", shape(1, 0) + begin(5, 3) + b"\1" + reply(0, 5, 1, one[:2], [1 << 63 | 3]))
    write("client", "cut", shape(1, 0) + begin(5, 3) + b"\1" + reply(0, 5, 0, one, cut=4))
    write("client", "stranger", shape(1, 0) + begin(5, 3) + b"\1" + reply(6, 5, 0, one))
    write("client", "silence", shape(2, 1) + begin(12, 9) + b"\1" + reply(0, 5, 0, two[0]) + b"\1\2\3\x14")
    write("client", "post_fails", shape(2, 1, 3) + begin(12, 9) + begin(4, 7) + b"\1" + reply(0, 5, 0, two[0]) +
          reply(1, 5, 0, two[1]) + b"\2")
    write("client", "peek", shape(1, 0) + b"\3\x05" + reply(0, 0, 0, [1] * 5, sequence=1) + b"\3\x14" +
          reply(0, 0, 1, [2] * 4, sequence=2))


def make_frames():
    """Headers without their checksum: the target puts it right."""

    def header(**changes):
        f = {"magic": b"WEIR", "version": 1, "type": 3, "flags": 0, "reserved": 0, "source": 1, "job": 42,
             "step": 12000, "sequence": 0, "count": 10, "size": 2560, "checksum": 0x0123456789abcdef, **changes}
        return struct.pack("<4sHHHHIQQIIQQQ", *f.values(), 0)

    write("frame", "good", header())
    write("frame", "other_job", header(job=7))
    write("frame", "huge", header(size=1 << 63))
    write("frame", "at_the_cap", header(size=1 << 32))
    write("frame", "version_2", header(version=2))
    write("frame", "type_0", header(type=0))
    write("frame", "reserved", header(reserved=1))
    write("frame", "short", header()[:40])


make_tensor_files()
make_frames()
def field(number, value):
    """One field of a protobuf message: an integer, a double, bytes, or a text."""
    def varint(n):
        out = b""
        while True:
            out += bytes([n & 127 | (128 if n > 127 else 0)])
            n >>= 7
            if n == 0:
                return out
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def make_control_messages():
    """proto/control.proto. The first byte is the sender: 0 a ctl, 1 the server, 2 and 3 workers."""
    def message(name, sender, body, content, job=1):
        write("control", name, bytes([sender]) + (field(1, job) if job else b"") + field(body, content))
    message("join", 1, 2, field(1, 1) + field(2, "ps") + field(4, "host") + field(5, 77) + field(6, "0.1.0"))
    message("heartbeat", 2, 3, field(1, 2) + field(2, 40) + field(3, 2) + field(4, 2.5) + field(5, 1e5))
    message("done_phase", 3, 3, field(1, 3) + field(3, 6))
    message("checkpoint_request", 2, 4, field(1, 1) + field(2, 1) + field(3, 1) + field(4, '{"mrr": 0.5}'))
    message("bad_metrics", 2, 4, field(1, 7) + field(4, '{"mrr": '))
    written = field(1, "item.ps-0000-of-0001.safetensors") + field(2, 4096) + field(3, 2**64 - 1)
    message("checkpoint_done", 1, 6, field(1, 1) + field(2, 1) + field(3, written) + field(3, written))
    message("traversal", 1, 6, field(1, 1) + field(2, 1) + field(3, field(1, "../../etc/passwd")))
    message("checkpoint_failed", 1, 6, field(1, 1) + field(2, 1) + field(4, "no space left on device"))
    message("finish", 2, 9, field(2, 1) + field(3, "finished"))
    message("ctl_status", 0, 7, b"", job=0)
    message("ctl_stop", 0, 9, field(1, 1), job=0)
    message("ctl_checkpoint", 0, 4, b"", job=0)
    message("ctl_no_wait", 0, 4, field(5, 1), job=0)
    message("wrong_job", 2, 9, field(2, 1), job=2)


def make_shards():
    """Slot 3 of 16,384 servers' shards; the first byte says which slot."""
    keys = sorted((k for k in range(400000) if hash64(k) >> 50 == 3), key=hash64)

    def shard(name, rows, steps, removed=None, first=3, admission=False, **metadata):
        data, header = b"", {}

        def add(tensor_name, dtype, shape, content):
            nonlocal data
            header[tensor_name] = tensor(dtype, shape, len(data), len(data) + len(content))
            data += content
        header["__metadata__"] = {"table": "item", "dim": "2", "optimizer": "sgd", "schema": "item:2:float32:sgd",
                                  "first_slot": str(first), "slots": "1", "step": "9", "ttl": "0", "kind": "full", **metadata}
        n = len(rows)
        add("keys", "U64", [n], struct.pack(f"<{n}Q", *rows))
        add("last_step", "U64", [n], struct.pack(f"<{n}Q", *steps))
        add("count", "U64", [n], struct.pack(f"<{n}Q", *[1] * n))
        add("slot_offsets", "U64", [2], struct.pack("<2Q", 0, n))
        if removed is not None:
            add("removed", "U64", [len(removed)], struct.pack(f"<{len(removed)}Q", *removed))
        add("value", "F32", [n, 2], struct.pack(f"<{2 * n}f", *range(2 * n)))
        if admission:
            add("admission", "U16", [1, 4], struct.pack("<4H", 1, 0, 2, 3))
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % 64)
        write("shard", name, bytes([3]) + struct.pack("<Q", len(text)) + text + data)

    delta = {"kind": "delta", "base_step": "5"}
    shard("full", keys[:4], [1, 9, 0, 3])
    shard("empty", [], [])
    shard("counted", keys[:2], [1, 1], admission=True)
    shard("delta", keys[1:3], [6, 9], [keys[0], keys[3]], **delta)
    shard("row_and_removed", keys[1:3], [6, 9], [keys[1]], **delta)
    shard("removed_out_of_order", keys[4:5], [6], [keys[1], keys[0]], **delta)
    shard("removed_of_another_slot", keys[4:5], [6], [1], **delta)
    shard("out_of_order", [keys[1], keys[0]], [1, 1])
    shard("from_the_future", keys[:1], [10])
    shard("before_the_base", keys[:1], [5], [], **delta)
    shard("base_of_itself", keys[:1], [9], [], kind="delta", base_step="9")
    shard("other_slot", keys[:1], [1], first=4)


def make_schemas():
    log = b"log: {path: x.jsonl, user: u, item: i, time: t}\nactions: {a: c}\ncontext: {k: {column: k, hash: 9}}\n"
    write("schema", "csv", b"u,i,t,r,c,w,k,s.t,v,z\na,p,1,4.5,1,2,home,red,0.5,q\nb,q,2,1,true,-1,,,,\nb,q,x,1,1,1,,,,\n")
    write("schema", "jsonl", b'{"u": "a", "i": 7, "t": 1.5, "r": 4, "c": true, "w": 1e3, "s": {"t": "x"}}\n{"u": []}\n[\n')
    write("schema", "both", log + b'\0{"u": "a", "i": "b", "t": 3, "c": 1, "k": null}\n')
    write("schema", "plain", b"log: {path: x, user: u, item: i, time: t}\0u,i,t\na,p,1\nb,q,2\n")
    write("schema", "list", b"log: [a]\n\0")
    write("schema", "deep", b"log: {a: {b: {c: d}}}\n\0")
    write("schema", "bounds", log + b'item_features: {z: {column: c, bounds: "1 2 3"}}\n\0{"u": 1, "i": 2, "t": 3, "c": 2}\n')


def make_reader_changes():
    """Changes to valid files: which file, then offset and byte each; see fuzz_reader.c."""
    def changes(name, first, *places):
        write("reader", name, bytes([first]) + b"".join(at.to_bytes(3, "little") + bytes([value]) for at, value in places))

    changes("full", 0)
    changes("delta", 1)
    changes("header_length", 0x80, (0, 0x10))
    changes("huge_header", 0x81, (7, 0x80))
    changes("header", 0x80, *[(at, 0x39) for at in range(300, 320)])
    for word in range(8):
        changes(f"rows_{word}", word % 2, *[(1200 + 997 * word + at, 0xff) for at in range(8)])


def make_npy():
    def npy(descr, shape, values, version=1, order="False", padding=64):
        text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
        fixed = 10 if version == 1 else 12
        text += b" " * (-(fixed + len(text) + 1) % padding) + b"\n"
        length = struct.pack("<H" if version == 1 else "<I", len(text))
        return b"\x93NUMPY" + bytes([version, 0]) + length + text + values

    write("npy", "matrix", npy("<f4", "(2, 3)", bytes(24)))
    write("npy", "keys", npy("<u8", "(3,)", bytes(24)))
    write("npy", "version_2", npy("<i8", "(1, 2)", bytes(16), version=2))
    write("npy", "none", npy("<f8", "(0, 7)", b""))
    write("npy", "columns", npy("<f8", "(2, 2)", bytes(32), order="True"))
    write("npy", "overflow", npy("<f8", f"({1 << 62}, 8)", bytes(8)))
    write("npy", "unaligned", npy("<f8", "(1,)", bytes(8), padding=1))
    write("npy", "header_4_gib", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(8))


def make_task_metrics():
    """Heads, 68 digits a sum, four sums a task; then samples (group, label, score) and bins."""
    digits = struct.pack("<272q", *[0] * 272)

    def state(kind, samples, positives, zeros=0, bins=(), counted=None):
        head = struct.pack("<8Q", kind, zeros, counted if counted is not None else len(samples), positives, 0, 0,
                           len(samples), len(bins))
        return (head + digits + b"".join(struct.pack("<Qff", *sample) for sample in samples)
                + b"".join(struct.pack("<3Q", *each) for each in bins))

    def saved(name, *states, most=8):
        write("task_metrics", name, struct.pack("<3Q", 0x0001736B73617477, 2, most) + b"".join(states))

    number = state(1, [], 0, counted=3)
    saved("empty", state(0, [], 0), state(1, [], 0))
    saved("samples", state(0, [(1, 1.0, 0.5), (1, 0.0, 0.5), (2, 0.0, -3.0)], 1), number)
    # a sound one would take milliseconds each time
    saved("bins_too_many", state(0, [], 2, 1, [(700000, 3, 3)], 5), number)
    saved("wrong_label", state(0, [(1, 0.5, 0.5)], 1), number)
    saved("other_memory", state(0, [], 0), number, most=9)


make_manifests()
make_reader_changes()
make_npy()
make_task_metrics()
make_schemas()
make_shards()
make_configs()
make_csvs()
make_server_frames()
make_client_answers()
make_control_messages()
