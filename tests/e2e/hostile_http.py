"""hostile_http.py URL: who asks for too much, or nothing, is turned away; others are served before and after."""
import http.client
import socket
import sys
import urllib.parse
import urllib.request

from exposition import parse

parts = urllib.parse.urlsplit(sys.argv[1])


def connect():
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def ask(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request(method, path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def good():
    return bool(parse(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())["samples"])


def raw(text):
    """What is answered; empty: the connection was closed."""
    with connect() as client:
        try:
            client.sendall(text)
            return client.recv(100)
        except (ConnectionError, BrokenPipeError):
            return b""


assert ask("GET", "/") == 404 and ask("GET", "/metrics/../etc/passwd") == 404
assert ask("HEAD", "/metrics") == 200
assert ask("POST", "/metrics", b"x" * 1000) == 405 and ask("DELETE", "/metrics") == 405
assert good()
for text in (b"\0" * 5000, b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n",
             b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 20000 + b"\r\n",
             b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"):
    answer = raw(text)
    assert answer == b"" or not answer.startswith(b"HTTP/1.1 200"), (text[:40], answer)
    assert good()

# More than may connect, each without a word: all are dropped in time.
silent = [connect() for _ in range(40)]
for client in silent:
    try:
        assert client.recv(1) == b""
    except ConnectionError:
        pass
assert good()

# A client that takes its page slowly keeps nobody waiting.
slow = connect()
slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
assert good()
slow.close()
