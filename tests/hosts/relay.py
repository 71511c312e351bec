"""Between two network interfaces, frames as a long and lossy line would carry them: each waits DELAY milliseconds and
up to JITTER more, so that some overtake others, and LOSS percent never come. relay.py A B DELAY JITTER LOSS SEED"""
import heapq
import random
import select
import socket
import sys
import time

names, (delay, jitter, loss, seed) = sys.argv[1:3], map(float, sys.argv[3:7])
chance = random.Random(seed)
ends = []
for name in names:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    end.bind((name, 0))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.setblocking(False)
    ends.append(end)
waiting, number, sent, lost = [], 0, 0, 0
print("ready", flush=True)
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        _, _, to, frame = heapq.heappop(waiting)
        try:
            to.send(frame)
        except OSError:
            pass  # the interface is down, or the frame too long: lost as on a real line
    timeout = max(0.0, waiting[0][0] - now) if waiting else 1.0
    for end in select.select(ends, [], [], timeout)[0]:
        for _ in range(64):
            try:
                frame, about = end.recvfrom(65536)
            except (BlockingIOError, OSError):
                break
            if about[2] == socket.PACKET_OUTGOING:
                continue  # our own
            number += 1
            if chance.random() * 100 < loss:
                lost += 1
                continue
            due = time.monotonic() + (delay + chance.random() * jitter) / 1000
            heapq.heappush(waiting, (due, number, ends[1 - ends.index(end)], frame))
