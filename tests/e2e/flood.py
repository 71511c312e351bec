"""Flood the control port of the job in RUN until it ends (its weir train: PID). Fails where nothing came through to
flood, where the coordinator's memory grew by more than MOST MiB, where a rank was not heard, or where `weir ctl status`
was not answered.

    flood.py RUN PID MOST"""
import json
import os
import random
import socket
import subprocess
import sys
import time

RUN, JOB, MOST_GROWTH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
MANY = 300           # connections at a time
FLOOD = 20           # seconds at the most
draw = random.Random(5)

# ZMTP 3.1: signature, version, mechanism (20 bytes), as-server, filler.
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01"
CURVE = GREETING + b"CURVE".ljust(20, b"\0") + bytes(32)
NULL = GREETING + b"NULL".ljust(20, b"\0") + bytes(32)
HELLO = b"\x04\xc8\x05HELLO\x01\x00" + bytes(72) + draw.randbytes(120)  # well formed, sealed with no key of this job
HUGE = b"\x06" + (1 << 62).to_bytes(8, "big")                       # a command of 4 EiB
KINDS = [b"", draw.randbytes(65536), CURVE, CURVE + HELLO, CURVE + HUGE + draw.randbytes(65536), NULL + HELLO,
         NULL + HUGE, b"GET / HTTP/1.1\r\n\r\n", CURVE + draw.randbytes(4096)]


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def lives():
    try:
        with open(f"/proc/{JOB}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status():
    answer = subprocess.run(["weir", "ctl", "--run", RUN, "status", "--json"], capture_output=True, text=True)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def connect(port):
    peer = socket.socket()
    peer.setblocking(False)
    peer.connect_ex(("127.0.0.1", port))
    return peer


def flood(port, coordinator):
    """Seconds of it, connections, bytes taken, and by how many MiB the coordinator grew at the most."""
    peers, made, taken, grown, answers, asked, silence = [], 0, 0, 0.0, 0, 0, 0.0
    began, before, next_question = time.monotonic(), resident(coordinator), 0.0
    while lives() and time.monotonic() - began < FLOOD:
        while len(peers) < MANY:
            peers.append((connect(port), draw.choice(KINDS)))
            made += 1
        for _ in range(MANY // 4):
            at = draw.randrange(len(peers))
            peer, kind = peers[at]
            try:
                taken += peer.send(kind or b"\0") if kind or draw.random() < 0.01 else 0
            except BlockingIOError:
                pass
            except OSError:
                peer.close()
                peers[at] = (connect(port), draw.choice(KINDS))
                made += 1
            if draw.random() < 0.1:
                peers[at][0].close()
                peers[at] = (connect(port), draw.choice(KINDS))
                made += 1
        try:
            grown = max(grown, resident(coordinator) - before)
        except OSError:
            break
        if time.monotonic() - began > next_question:
            next_question += 1.0
            asked += 1
            found = status()
            if found is not None:
                answers += 1
                silence = max([silence] + [rank["heard_seconds_ago"] for rank in found["ranks"]])
        time.sleep(0.01)
    for peer, _ in peers:
        peer.close()
    return time.monotonic() - began, made, taken, grown, asked, answers, silence


def main():
    with open(os.path.join(RUN, "control.json"), encoding="utf-8") as file:
        control = json.load(file)
    port = int(control["endpoint"].rsplit(":", 1)[1])
    seconds, made, taken, grown, asked, answers, silence = flood(port, control["pid"])
    print(f"{seconds:.1f} s: {made} connections, {taken >> 10} KiB taken; the coordinator grew by {grown:.1f} MiB; "
          f"{answers} of {asked} questions of weir ctl answered, no rank unheard for more than {silence:.1f} s")
    if made < 1000 or taken < 1 << 20:
        sys.exit("FAILED: that was no flood")
    if grown > MOST_GROWTH:
        sys.exit("FAILED: the coordinator's memory grew")
    if answers == 0 or answers < asked - 2:  # the job may begin or end in one
        sys.exit("FAILED: weir ctl was not answered")
    if silence > 20.0:
        sys.exit("FAILED: a rank was not heard")


main()
