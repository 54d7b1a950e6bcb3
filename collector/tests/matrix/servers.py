"""Servers of Python's standard library: `servers.py http|asyncio|raw PORT`.

What a request asks for is the second part of its path. `http` answers with the library's own means; `asyncio` and
`raw` write the bytes themselves, the latter after reading single bytes and with `sendmsg`.
"""

import asyncio
import resource
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAUSE = 0.001  # lets a part leave as a segment of its own
BIG_PARTS = 1000
BIG_PART = b"e" * 64000
RESET = struct.pack("ii", 1, 0)


def whole(status, body, method):
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = [b"5\r\nHTTP/\r\n00", b"C\r\n1.1 2", b"00 OK\r\n\r\n"]
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly so much"
FIXED = {
    "empty": ([b"HTTP/1.1 204 No Content\r\n\r\n"], "go on"),
    "unchanged": ([b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'], "go on"),
    "chunked": ([CHUNKED, *CHUNKS, b"0\r\n\r\n"], "go on"),
    "trailers": ([CHUNKED, *CHUNKS, b"0\r\nX-Sum: 9\r\n\r\n"], "go on"),
    "close": ([b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end"], "close"),
    "cut": ([PART], "close"),
    "cut-chunked": ([CHUNKED, CHUNKS[0]], "close"),
    "cut-head": ([b"HTTP/1.1 200 OK\r\nContent-Le"], "close"),
    "silent": ([], "close"),
    "reset": ([PART], "reset"),
    "hang": ([], "hang"),
    "early": ([whole("413 Content Too Large", b"too much\n", "POST")], "close"),
    "upgrade": ([b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"], "tunnel"),
    "big": ([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BIG_PARTS * len(BIG_PART))], "big"),
    "chunked-big": ([CHUNKED + (b"fa00\r\n" + BIG_PART + b"\r\n") * 40 + b"0\r\n\r\n"], "go on"),
    "dribble": ([bytes([byte]) for byte in whole("200 OK", b"ok\n", "GET")], "go on"),
}
WHOLE = {
    "plain": ("200 OK", b"ok\n"),
    "medium": ("200 OK", b"m" * 20000),
    "missing": ("404 Not Found", b"no\n"),
    "fail": ("503 Service Unavailable", b"no\n"),
}


def answer(method, behaviour):
    """The parts to send, and what happens then."""
    if behaviour in WHOLE:
        status, body = WHOLE[behaviour]
        return [whole(status, body, method)], "go on"
    return FIXED[behaviour]


class Head:
    def __init__(self, text):
        first, *lines = text.decode().strip("\r\n").split("\r\n")
        self.method, self.path, self.version = first.split(" ")
        fields = (line.split(":", 1) for line in lines)
        self.fields = {name.lower(): value.strip() for name, value in fields}
        self.behaviour = self.path.split("/")[2]
        self.length = int(self.fields.get("content-length", 0))
        self.chunked = self.fields.get("transfer-encoding") == "chunked"
        self.expects = self.fields.get("expect") == "100-continue"
        self.closes = self.version == "HTTP/1.0" or self.fields.get("connection") == "close"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def serve(self):
        behaviour = self.path.split("/")[2]
        if behaviour != "early":
            self.read_body()
        if behaviour in WHOLE or behaviour == "early":
            status, body = WHOLE.get(behaviour, ("413", b"too much\n"))
            self.send_response(int(status[:3]))
            self.send_header("Content-Length", str(len(body)))
            if behaviour == "early":
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        elif behaviour in ("empty", "unchanged"):
            self.send_response(204 if behaviour == "empty" else 304)
            self.end_headers()
        else:
            parts, then = FIXED[behaviour]
            for part in parts:
                self.wfile.write(part)
                time.sleep(PAUSE)
            self.end(then)

    do_GET = do_POST = do_HEAD = serve

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            self.rfile.read(size + 2)
        while self.rfile.readline() != b"\r\n":
            pass

    def end(self, then):
        if then == "big":
            for _ in range(BIG_PARTS):
                self.wfile.write(BIG_PART)
        elif then == "hang":
            self.rfile.read(1)
        elif then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()
        self.close_connection = then != "go on"

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024

    def handle_error(self, *_):
        pass  # clients that leave are part of the test

    def shutdown_request(self, request):
        # The library's own shuts down first, which a reset must not.
        self.close_request(request)


class Server6(Server):
    address_family = socket.AF_INET6


async def converse(reader, writer):
    try:
        while await converse_once(reader, writer):
            pass
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def converse_once(reader, writer):
    text = (await reader.readuntil(b"\r\n")).lstrip(b"\r\n")
    if not text:
        return True
    head = Head(text + await reader.readuntil(b"\r\n\r\n"))
    if head.behaviour != "early":
        if head.expects:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(head.length)
        if head.chunked:
            while size := int((await reader.readline()).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            while await reader.readline() != b"\r\n":
                pass
    parts, then = answer(head.method, head.behaviour)
    for index, part in enumerate(parts):
        if index:
            await asyncio.sleep(PAUSE)
        writer.write(part)
    await writer.drain()
    if then == "big":
        for _ in range(BIG_PARTS):
            writer.write(BIG_PART)
            await writer.drain()
    elif then == "hang":
        await reader.read(1)
    elif then == "tunnel":
        while echo := await reader.read(4096):
            writer.write(echo)
            await writer.drain()
    elif then == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    return then == "go on" and not head.closes


async def serve_asyncio(port):
    for address in ("127.0.0.1", "::1"):
        await asyncio.start_server(converse, address, port, backlog=4096)
    await asyncio.Event().wait()


class Raw:
    def __init__(self, stream):
        self.stream = stream
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, count):
        got = b""
        while len(got) < count:
            # Single bytes as long as that does not take longer than the rest of the test.
            part = self.stream.recv(1 if count < 10000 else count - len(got))
            if not part:
                raise ConnectionError
            got += part
        return got

    def read_until(self, end):
        got = b""
        while not got.endswith(end):
            got += self.read(1)
        return got

    def run(self):
        try:
            while self.once():
                pass
        except ConnectionError:
            pass
        finally:
            self.stream.close()

    def once(self):
        text = self.read_until(b"\r\n").lstrip(b"\r\n")
        if not text:
            return True
        head = Head(text + self.read_until(b"\r\n\r\n"))
        if head.behaviour != "early":
            self.read_body(head)
        parts, then = answer(head.method, head.behaviour)
        for index, part in enumerate(parts):
            if index:
                time.sleep(PAUSE)
            self.scatter(part)
        if then == "big":
            for _ in range(BIG_PARTS):
                self.stream.sendall(BIG_PART)
        elif then == "hang":
            self.stream.recv(1)
        elif then == "tunnel":
            while echo := self.stream.recv(5000):
                self.stream.sendall(echo)
        elif then == "reset":
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return then == "go on" and not head.closes

    def read_body(self, head):
        if head.expects:
            self.stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.read(head.length)
        if head.chunked:
            while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
                self.read(size + 2)
            while self.read_until(b"\r\n") != b"\r\n":
                pass

    def scatter(self, part):
        while part:
            step = max(3, len(part) // 500)
            slices = [part[at : at + step] for at in range(0, len(part), step)]
            part = part[self.stream.sendmsg(slices) :]


def serve_raw(address, family, port):
    listener = socket.create_server((address, port), family=family, backlog=1024)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=Raw(stream).run, daemon=True).start()


def main(kind, port):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if kind == "asyncio":
        asyncio.run(serve_asyncio(port))
    elif kind == "http":
        other = Server6(("::1", port), Handler)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        Server(("127.0.0.1", port), Handler).serve_forever()
    else:
        other = ("::1", socket.AF_INET6, port)
        threading.Thread(target=serve_raw, args=other, daemon=True).start()
        serve_raw("127.0.0.1", socket.AF_INET, port)


main(sys.argv[1], int(sys.argv[2]))
