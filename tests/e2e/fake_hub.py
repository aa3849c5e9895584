"""A hub of Hugging Face's kind on this machine, with everything that goes wrong: for tests.

A Hub serves repositories from memory (or from a function that makes the bytes) on 127.0.0.1. Files
with `lfs` are redirected to a second server on 127.0.0.2, as the real hub does. Faults are attributes of
a File, or functions in Hub.faults that see every request first.
"""

import hashlib
import json
import socket
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK_BYTES = 1 << 16


class File:
    """The content is bytes, or zeros of a given size that are made as they are sent."""

    def __init__(self, content=b"", size=None, lfs=True, sha256=None):
        self.content = content if size is None else None
        self.size = len(content) if size is None else size
        self.lfs = lfs
        self.sha256 = sha256 or hashlib.sha256(content).hexdigest()
        self.etag = None  # else the one that the bytes are served with
        self.ignores_ranges = False
        self.bytes_per_second = None
        self.listed_size = None  # a size that the list states wrongly
        self.served_size = None  # a size that the answers state wrongly

    def read(self, begin, end):
        return bytes(end - begin) if self.content is None else self.content[begin:end]


class Fault(Exception):
    """Ends a request with this answer."""

    def __init__(self, status, headers=None, body=b""):
        super().__init__(status)
        self.status, self.headers, self.body = status, headers or {}, body


class Cut(Exception):
    """Ends the connection without a word."""


class Request:
    """What tests know about a request afterwards."""

    def __init__(self, handler, server_name):
        self.server = server_name  # "hub" or "store"
        self.method = handler.command
        self.path = urllib.parse.unquote(handler.path)
        self.authorization = handler.headers.get("Authorization")
        self.all_headers = str(handler.headers)
        self.range = handler.headers.get("Range")
        self.if_range = handler.headers.get("If-Range")


class Hub:
    def __init__(self):
        self.files = {}  # "OWNER/REPO" → {path: File}
        self.requests = []
        self.num_sent = 0  # bytes of files
        self.faults = []  # functions of (Request), which may raise Fault or Cut, or sleep
        self.cut_after = None  # a function that returns after how many bytes the next body is cut
        self.token = None  # the one that is needed
        self.page_size = 1000
        self.links = {}  # a listing's extra entries, as they are: "OWNER/REPO" → [entry]
        self.lock = threading.Lock()
        self.hub = self.serve("127.0.0.1", "hub")
        self.store = self.serve("127.0.0.2", "store")
        self.url = "http://127.0.0.1:%d" % self.hub.server_port
        self.store_url = "http://127.0.0.2:%d" % self.store.server_port

    def serve(self, address, name):
        handler = type("Handler", (Handler,), {"fake": self, "server_name": name})
        server = Server((address, 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self):
        for server in (self.hub, self.store):
            server.shutdown()
            server.server_close()

    def add(self, repository, path, *args, **kwargs):
        file = File(*args, **kwargs)
        self.files.setdefault(repository, {})[path] = file
        return file

    def reset(self):
        self.requests, self.num_sent, self.faults, self.cut_after = [], 0, [], None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients of these tests end connections as they like."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self):
        # Short buffers: bytes that are counted as sent do not wait in them.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        request = Request(self, self.server_name)
        with self.fake.lock:
            self.fake.requests.append(request)
        try:
            for fault in list(self.fake.faults):
                fault(request)
            self.route(urllib.parse.urlsplit(self.path))
        except Fault as fault:
            self.send_whole(fault.status, fault.headers, fault.body)
        except Cut:
            self.cut()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def cut(self):
        """Resets the connection: the client sees an error, not an end."""
        self.close_connection = True
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except OSError:
            pass

    def send_whole(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def route(self, url):
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")]
        if self.server_name == "store":
            return self.send_file(self.find("/".join(parts[1:3]), "/".join(parts[3:])))
        self.check_token()
        if parts[1:3] == ["api", "models"] and parts[5:6] == ["tree"]:
            return self.send_tree("/".join(parts[3:5]), parts[6], urllib.parse.parse_qs(url.query))
        if parts[3:4] == ["resolve"]:
            return self.send_resolved("/".join(parts[1:3]), "/".join(parts[5:]))
        raise Fault(404)

    def check_token(self):
        if self.fake.token is None:
            return
        given = self.headers.get("Authorization")
        if given is None:
            raise Fault(401, {"X-Error-Code": "GatedRepo"})
        if given != "Bearer " + self.fake.token:
            raise Fault(403, {"X-Error-Code": "GatedRepo"})

    def find(self, repository, path):
        if repository not in self.fake.files:
            raise Fault(404, {"X-Error-Code": "RepoNotFound"})
        if path not in self.fake.files[repository]:
            raise Fault(404, {"X-Error-Code": "EntryNotFound"})
        return self.fake.files[repository][path]

    def send_tree(self, repository, revision, query):
        if repository not in self.fake.files:
            raise Fault(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            raise Fault(404, {"X-Error-Code": "RevisionNotFound"})
        entries = list(self.fake.links.get(repository, []))
        for path, file in self.fake.files[repository].items():
            size = file.size if file.listed_size is None else file.listed_size
            entry = {"type": "file", "oid": "0" * 40, "size": size, "path": path}
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": size, "pointerSize": 135}
            entries.append(entry)
        begin = int(query.get("cursor", ["0"])[0])
        end = begin + self.fake.page_size
        headers = {"Content-Type": "application/json"}
        if end < len(entries):
            next_page = f"{self.fake.url}{self.path.split('?')[0]}?recursive=true&cursor={end}"
            headers["Link"] = f'<{next_page}>; rel="next"'
        self.send_whole(200, headers, json.dumps(entries[begin:end]).encode())

    def send_resolved(self, repository, path):
        file = self.find(repository, path)
        if not file.lfs:
            return self.send_file(file)
        quoted = urllib.parse.quote(f"/{repository}/{path}")
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.size if file.served_size is None else file.served_size),
            "Accept-Ranges": "bytes",
            "Location": f"{self.fake.store_url}{quoted}?signature=secret-signature",
        }
        self.send_whole(302, headers, b"Found")

    def send_file(self, file):
        size = file.size if file.served_size is None else file.served_size
        etag = file.etag or f'"{file.sha256[:32]}"'
        begin, end = self.wanted_range(file, etag, size)
        is_part = begin is not None
        if not is_part:
            begin, end = 0, size
        self.send_response(206 if is_part else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(end - begin))
        if not file.ignores_ranges:
            self.send_header("Accept-Ranges", "bytes")
        if is_part:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(file, begin, end)

    def wanted_range(self, file, etag, size):
        wanted = self.headers.get("Range")
        if wanted is None or file.ignores_ranges:
            return None, None
        if self.headers.get("If-Range", etag) != etag:
            return None, None
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last) + 1 if last else size, size)
        if begin >= end:
            raise Fault(416, {"Content-Range": f"bytes */{size}"})
        return begin, end

    def send_body(self, file, begin, end):
        left = None if self.fake.cut_after is None else self.fake.cut_after()
        while begin < end:
            stop = min(begin + BLOCK_BYTES, end)
            if left is not None:
                stop = min(stop, begin + left)
                left -= stop - begin
            data = file.read(begin, stop)
            self.wfile.write(data)
            with self.fake.lock:
                self.fake.num_sent += len(data)
            if file.bytes_per_second:
                time.sleep(len(data) / file.bytes_per_second)
            if len(data) < stop - begin or left == 0:
                raise Cut
            begin = stop
