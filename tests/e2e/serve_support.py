"""What the tests of `mochi serve` share: starting and ending it, requests, server-sent events, answers
held to its own OpenAPI description.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from support import MOCHI, TIMEOUT_S, ProgramTest

READY = re.compile(r"mochi: serving http://(?P<host>\S+):(?P<port>\d+)/ \(model (?P<model>.+)\)")
# It samples for minutes, so that others wait for it; tests delete it.
LONG = {"width": 256, "height": 256, "num_frames": 31, "num_steps": 2000}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


class Event(NamedTuple):
    name: str
    id: int | None
    data: dict


def encode_form(fields):
    """A body of multipart/form-data and its type; fields are pairs of names and texts."""
    boundary = "boundary-of-a-test"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
             for name, value in fields]
    body = "".join(parts) + f"--{boundary}--\r\n"
    return body.encode(), f"multipart/form-data; boundary={boundary}"


def jpeg_size(content):
    """Width and height of a JPEG, from its frame header."""
    if content[:2] != b"\xff\xd8" or content[-2:] != b"\xff\xd9":
        raise ValueError("no whole JPEG")
    at = 2
    while content[at] == 0xFF:
        marker, (length,) = content[at + 1], struct.unpack(">H", content[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xC2:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise ValueError("no frame header")


def decode_data_url(url, media_type):
    prefix = f"data:{media_type};base64,"
    if not url.startswith(prefix):
        raise ValueError(f"wanted {prefix}, found {url[:40]}")
    return base64.b64decode(url[len(prefix) :], validate=True)


def children_of(pid):
    """Ids of running processes whose parent is `pid`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(after_name[1]) == pid and after_name[0] != "Z":
            found.append(int(folder.name))
    return found


def digest(content):
    """Stands for the bytes of a file where a message shows what differs."""
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what, timeout_s=TIMEOUT_S):
    """Returns the first true value of `condition`."""
    begin = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - begin > timeout_s:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)
    return value


class EventStream:
    """The events of a video, one at a time; ends when the server ends the stream."""

    def __init__(self, server, path, headers):
        self.connection = server.connect()
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.retry, self.comments = None, []
        if self.response.status != 200:
            raise AssertionError(f"{self.response.status}: {self.response.read()!r}")

    def __iter__(self):
        fields = {}
        for line in iter(self.response.readline, b""):
            text = line.decode().rstrip("\n").rstrip("\r")
            if not text:
                if "data" in fields:
                    yield self.to_event(fields)
                fields = {}
                continue
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            elif name == "retry":
                self.retry = int(value)
            else:
                fields[name] = value

    @staticmethod
    def to_event(fields):
        event_id = int(fields["id"]) if "id" in fields else None
        return Event(fields["event"], event_id, json.loads(fields["data"]))

    def next(self, *names):
        """The next event with one of these names."""
        for event in self:
            if event.name in names:
                return event
        raise AssertionError(f"the stream ended without an event {names}")

    def close(self):
        self.connection.close()


class Server:
    """`mochi serve` on a free port."""

    def __init__(self, data, model, *flags, key=None, env=None):
        command = [MOCHI, "serve", "--port", "0", "--data-dir", str(data), "--model-dir", str(model),
                   *map(str, flags)]
        self.data, self.key = Path(data), key
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True,
                                        env=None if env is None else os.environ | env)
        self.lines = []
        self.is_ready = threading.Event()
        self.reader = threading.Thread(target=self.read_lines, daemon=True)
        self.reader.start()
        self.is_ready.wait(TIMEOUT_S)
        ready = next(filter(None, map(READY.fullmatch, self.lines)), None)
        if ready is None:
            self.kill()
            raise AssertionError(f"the server does not start: {self.lines}")
        self.host, self.port = ready["host"], int(ready["port"])
        self.model = ready["model"]

    def read_lines(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if READY.fullmatch(self.lines[-1]):
                self.is_ready.set()
        self.is_ready.set()

    # ---- its end ----

    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        return children_of(self.pid)

    def wait(self):
        """The exit status, after all lines were read."""
        status = self.process.wait(timeout=TIMEOUT_S)
        self.reader.join(TIMEOUT_S)
        self.process.stderr.close()
        return status

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.wait()
        reports = [line for line in self.lines if "Sanitizer" in line or "runtime error:" in line]
        if reports:
            raise AssertionError(f"an instrumented program reports {reports}")

    # ---- requests ----

    def connect(self):
        return http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=TIMEOUT_S)

    def authorize(self, headers, key):
        key = self.key if key is None else key
        return ({"Authorization": f"Bearer {key}"} if key else {}) | (headers or {})

    def request(self, method, path, body=None, headers=None, key=None):
        """`body` may be an object, which is sent as JSON, or bytes."""
        headers = self.authorize(headers, key)
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"} | headers
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, headers=None, key=None):
        return self.request("GET", path, headers=headers, key=key)

    def post(self, path, body, headers=None, key=None):
        return self.request("POST", path, body, headers, key)

    def delete(self, path, key=None):
        return self.request("DELETE", path, key=key)

    def post_form(self, path, fields, headers=None, key=None):
        body, content_type = encode_form(fields)
        return self.post(path, body, {"Content-Type": content_type} | (headers or {}), key)

    def send_raw(self, content, ends=False):
        """Sends bytes, perhaps with the end of what is sent, and returns all that comes back until the
        server closes the connection."""
        with socket.create_connection((self.host.strip("[]"), self.port), timeout=TIMEOUT_S) as link:
            received = b""
            try:
                link.sendall(content)
                if ends:
                    link.shutdown(socket.SHUT_WR)
                while part := link.recv(65536):
                    received += part
            except ConnectionError:  # it closed without reading the rest
                pass
        return received

    def events(self, video_id, after=None, query="", key=None):
        headers = self.authorize({} if after is None else {"Last-Event-ID": str(after)}, key)
        return EventStream(self, f"/v1/videos/{video_id}/events{query}", headers)

    # ---- videos ----

    def create(self, prompt="a ball", key=None, headers=None, **fields):
        answer = self.post("/v1/videos", {"prompt": prompt, **fields}, headers, key)
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.body!r}")
        return answer.json()

    def video(self, video_id, key=None):
        answer = self.get(f"/v1/videos/{video_id}", key=key)
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.body!r}")
        return answer.json()

    def wait_for(self, video_id, *statuses, key=None):
        """The video as soon as it has one of these statuses, or has ended."""
        ends = {"completed", "failed", *statuses}

        def look():
            video = self.video(video_id, key)
            return video if video["status"] in ends else None

        return wait_until(look, f"{video_id} to be {ends}")

    def content(self, video_id, key=None, **query):
        path = f"/v1/videos/{video_id}/content"
        return self.get(path + ("?" + urllib.parse.urlencode(query) if query else ""), key=key)

    def digest_of(self, video_id, key=None):
        """The digest of a completed video."""
        answer = self.content(video_id, key)
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.body!r}")
        return digest(answer.body)

    def all_videos(self, key=None):
        """Every video, page by page, the newest first."""
        videos, after = [], ""
        while True:
            page = self.get(f"/v1/videos?limit=100{after}", key=key).json()
            videos += page["data"]
            if not page["has_more"]:
                return videos
            after = f"&after={page['last_id']}"


# ---- the OpenAPI description ----

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
         "integer": int, "number": (int, float)}


def is_of_type(value, name):
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def schema_problems(value, schema, components, where="$"):
    """Problems of a value by the part of JSON Schema that the description uses for answers."""
    if "$ref" in schema:
        return schema_problems(value, components[schema["$ref"].rpartition("/")[2]], components, where)
    if "oneOf" in schema:
        fitting = [each for each in schema["oneOf"]
                   if not schema_problems(value, each, components, where)]
        return [] if len(fitting) == 1 else [f"{where}: {value!r} fits {len(fitting)} choices"]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_of_type(value, name) for name in types):
        return [f"{where}: wanted {types}, found {value!r}"]
    problems = []
    if "const" in schema and value != schema["const"]:
        problems.append(f"{where}: wanted {schema['const']!r}, found {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{where}: wanted one of {schema['enum']}, found {value!r}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        problems.append(f"{where}: wanted {schema['pattern']}, found {value!r}")
    if isinstance(value, (int, float)) and not (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)):
        problems.append(f"{where}: {value} is out of range")
    if isinstance(value, dict):
        problems += [f"{where}: lacks {key}" for key in schema.get("required", ()) if key not in value]
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                problems += schema_problems(value[key], inner, components, f"{where}.{key}")
        known = schema.get("properties", value)
        problems += [f"{where}: does not know {key}" for key in value if key not in known]
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            problems += schema_problems(item, schema["items"], components, f"{where}[{index}]")
    return problems


class ServeTest(ProgramTest):
    """Servers of a test end with it."""

    def serve(self, *flags, data="data", key=None, model=None, env=None):
        server = Server(self.folder / data, model or self.model, *flags, key=key, env=env)
        self.addCleanup(server.kill)
        return server

    def write_keys(self, **keys):
        path = self.folder / "keys"
        path.write_text("".join(f"{name}: {key}\n" for name, key in keys.items()))
        path.chmod(0o600)
        return path

    def refuse_to_serve(self, *flags, parts, data="data"):
        """The program ends with one line that has these parts."""
        done = self.run_mochi("serve", "--port", "0", "--data-dir", self.folder / data, *flags)
        self.assertGreater(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("mochi: "), done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def expect_schema(self, server, value, name):
        components = server.get("/openapi.json").json()["components"]["schemas"]
        self.assertEqual(schema_problems(value, components[name], components), [])

    def expect_refusal(self, answer, status, kind, parts=(), **wanted):
        """An error object with one line of text that has these parts; `wanted` are further members."""
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers.get_content_type(), "application/json")
        self.assertTrue(answer.headers["x-request-id"])
        error = answer.json()["error"]
        self.assertEqual(sorted(error), ["code", "message", "param", "type"])
        self.assertEqual(error | {"type": kind} | wanted, error)
        self.assertTrue(error["message"].isprintable(), error)
        for part in parts:
            self.assertIn(part, error["message"])
