"""Flood the control port of the job in RUN until it ends (its weir train: PID). Fails where nothing came through to
flood, where the coordinator's memory grew by more than MOST MiB, where a rank was not heard, or where `weir ctl status`
was not answered. With PORT the flood begins before the job does, which waits for the file `flooding`: then every rank
has to join meanwhile, and take a step.

    flood.py RUN PID MOST [PORT]"""
import json
import os
import random
import socket
import subprocess
import sys
import time

RUN, JOB, MOST_GROWTH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PORT = int(sys.argv[4]) if len(sys.argv) > 4 else 0
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


def control():
    """control.json, where the job has come so far."""
    try:
        with open(os.path.join(RUN, "control.json"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def stepped():
    """Whether a step is among the run's metrics."""
    try:
        with open(os.path.join(RUN, "metrics.jsonl"), encoding="utf-8") as file:
            return any('"train"' in line for line in file)
    except OSError:
        return False


class Strangers:
    """Connections to a port: what each does is drawn."""

    def __init__(self, port):
        self.port, self.peers, self.made, self.taken = port, [], 0, 0

    def exchange(self, at):
        self.peers[at][0].close()
        self.peers[at] = (connect(self.port), draw.choice(KINDS))
        self.made += 1

    def round(self):
        while len(self.peers) < MANY:
            self.peers.append((connect(self.port), draw.choice(KINDS)))
            self.made += 1
        for _ in range(MANY // 4):
            at = draw.randrange(len(self.peers))
            peer, kind = self.peers[at]
            try:
                self.taken += peer.send(kind or b"\0") if kind or draw.random() < 0.01 else 0
            except BlockingIOError:
                pass
            except OSError:
                self.exchange(at)
            if draw.random() < 0.1:
                self.exchange(at)

    def close(self):
        for peer, _ in self.peers:
            peer.close()


class Watch:
    """What the job answers meanwhile."""

    def __init__(self):
        self.grown, self.answers, self.asked, self.silence, self.joined, self.first_step = 0.0, 0, 0, 0.0, None, None
        self.before, self.next_question = None, 0.0

    def look(self, coordinator, now):
        resident_now = resident(coordinator)
        if self.before is None:
            self.before = resident_now
        self.grown = max(self.grown, resident_now - self.before)
        if self.first_step is None and stepped():
            self.first_step = now
        if now >= self.next_question:
            self.next_question = now + (1.0 if self.joined is not None else 0.25)
            self.asked += 1
            found = status()
            if found is not None:
                self.answers += 1
                heard = [rank["heard_seconds_ago"] for rank in found["ranks"]]
                self.silence = max([self.silence] + heard)
                if self.joined is None and heard and all(rank["host"] for rank in found["ranks"]):
                    self.joined = now


def main():
    port = PORT or int(control()["endpoint"].rsplit(":", 1)[1])
    strangers, watch, there = Strangers(port), Watch(), None
    began = time.monotonic()
    if PORT:
        strangers.round()  # refused, all of them, and tried again until somebody listens
        with open("flooding", "w", encoding="ascii"):
            pass
    while lives() and time.monotonic() - began < FLOOD:
        strangers.round()
        if there is None and control() is not None:
            there, strangers.made = control(), 0
        if there is not None:
            try:
                watch.look(there["pid"], time.monotonic() - began)
            except OSError:
                break
        time.sleep(0.01)
    strangers.close()
    print(f"{time.monotonic() - began:.1f} s: {strangers.made} connections, {strangers.taken >> 10} KiB taken; the "
          f"coordinator grew by {watch.grown:.1f} MiB; {watch.answers} of {watch.asked} questions of weir ctl answered, "
          f"no rank unheard for more than {watch.silence:.1f} s")
    if PORT and (watch.joined is None or watch.first_step is None):
        sys.exit("FAILED: not every rank joined, or none took a step")
    if PORT:
        print(f"all ranks had joined after {watch.joined:.2f} s, the first steps were told after {watch.first_step:.2f} s")
    if strangers.made < 1000 or strangers.taken < 1 << 20:
        sys.exit("FAILED: that was no flood")
    if watch.grown > MOST_GROWTH:
        sys.exit("FAILED: the coordinator's memory grew")
    if watch.answers == 0 or watch.answers < watch.asked - 2:  # the job may begin or end in one
        sys.exit("FAILED: weir ctl was not answered")
    if watch.silence > 20.0:
        sys.exit("FAILED: a rank was not heard")


main()
