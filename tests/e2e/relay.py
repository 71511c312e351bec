"""A relay of TCP connections: relay.py PORT TO_PORT FOLDER. While FOLDER/cut is there, every connection is broken and
new ones are refused. Prints a line "cut" or "joined" when it has followed."""
import os
import select
import socket
import sys

port, to, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pairs, listener = {}, None


def close(end):
    for one in (end, pairs.pop(end, None)):
        if one is not None:
            pairs.pop(one, None)
            one.close()


while True:
    cut = os.path.exists(os.path.join(folder, "cut"))
    if cut and listener is not None:
        listener.close()
        listener = None
        for end in list(pairs):
            close(end)
        print("cut", flush=True)
    elif not cut and listener is None:
        listener = socket.create_server(("127.0.0.1", port), reuse_port=True)
        print("joined", flush=True)
    ready = select.select(([listener] if listener else []) + list(pairs), [], [], 0.05)[0]
    for end in ready:
        if end is listener:
            here = listener.accept()[0]
            try:
                there = socket.create_connection(("127.0.0.1", to))
            except OSError:
                here.close()
                continue
            pairs[here], pairs[there] = there, here
        elif end in pairs:
            try:
                bytes_read = end.recv(65536)
                if not bytes_read:
                    raise OSError
                pairs[end].sendall(bytes_read)
            except OSError:
                close(end)
