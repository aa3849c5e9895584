#!/usr/bin/env python3
"""Loads `mochi serve` with many requests, listeners and hostile clients while it makes a video, and
reports what that costs both.

Usage: load.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL [--requests 100000] [--rate 2000] [--json FILE]

The video is one of the bundled model. The clients share the machine with the server and its worker, so
they are paced (--rate, requests a second; 0: as fast as they can), their own CPU time is reported, and
the latency of GET /v1/videos/{id} is that of a separate process with one blocking connection. The same
process first asks a server that answers a constant text: what remains is the client's own time.
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from serve_support import Server, encode_form, wait_until  # noqa: E402

NUM_CLIENTS, NUM_LISTENERS, NUM_SLOW = 64, 200, 50
MAX_BODY = 64 * 1024
MOST_SECONDS = 1800  # of a video
VIDEO = {"prompt": "a small red ball moves left", "num_steps": 64, "seed": 1}


def get(path, **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode()


def post(path, body, content_type="application/json"):
    return (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def request_kinds(running, done):
    """Name → (weight, bytes to send, statuses that are right)."""
    form, form_type = encode_form([("prompt", "a ball"), ("colour", "red")])
    return {
        "retrieve": (40, get(f"/v1/videos/{running}"), {200}),
        "list": (10, get("/v1/videos?limit=20"), {200}),
        "status": (8, get("/v1/status"), {200}),
        "models": (5, get("/v1/models"), {200}),
        "metrics": (3, get("/metrics"), {200}),
        "health": (5, get("/healthz"), {200}),
        "page": (5, get("/"), {200}),
        "description": (2, get("/openapi.json"), {200}),
        "range": (8, get(f"/v1/videos/{done}/content", Range="bytes=0-4095"), {206}),
        "thumbnail": (3, get(f"/v1/videos/{done}/content?variant=thumbnail"), {200}),
        "estimate": (3, post("/v1/videos/estimate", json.dumps(VIDEO).encode()), {200}),
        "create, queue full": (2, post("/v1/videos", json.dumps(VIDEO).encode()), {429, 200}),
        "wrong field": (2, post("/v1/videos", form, form_type), {400}),
        "malformed JSON": (2, post("/v1/videos", b'{"prompt": '), {400}),
        "too large": (1, post("/v1/videos", b" " * (MAX_BODY + 1)), {413}),
        "unknown route": (1, get("/v1/nothing"), {404}),
        "unknown video": (1, get("/v1/videos/video_000000000000000000000000"), {404}),
        "other site": (1, get("/v1/status", Origin="http://evil.example"), {403}),
    }


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else None


def milliseconds(values):
    return {f"p{percent}": round(1000 * percentile(values, percent), 3) for percent in (50, 99)} | {
        "max": round(1000 * max(values), 3), "count": len(values)}


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds_of(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)


# ---- the clients, in processes of their own ----


async def exchange(reader, writer, content):
    """Sends a request. Returns the status and whether the connection stays open."""
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers.get("connection") != "close"


class Load:
    """NUM_CLIENTS connections that send requests of all kinds, paced together."""

    def __init__(self, port, kinds, num_requests, rate):
        self.port, self.kinds, self.left, self.rate = port, kinds, num_requests, rate
        self.begin = time.monotonic()
        self.num_sent = 0
        self.latencies = collections.defaultdict(list)
        self.errors = collections.Counter()
        self.names = list(kinds)
        self.weights = [kinds[name][0] for name in self.names]

    async def take_turn(self):
        turn, self.num_sent = self.num_sent, self.num_sent + 1
        if self.rate:
            await asyncio.sleep(self.begin + turn / self.rate - time.monotonic())

    async def run_client(self):
        reader = writer = None
        while self.num_sent < self.left:
            await self.take_turn()
            (name,) = random.choices(self.names, self.weights)
            _, content, right = self.kinds[name]
            begin = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                status, stays = await exchange(reader, writer, content)
                self.latencies[name].append(time.monotonic() - begin)
                if status not in right:
                    self.errors[f"{name}: {status}"] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                # A server may close the connection instead of reading a body that is too large.
                if name != "too large":
                    self.errors[f"{name}: {type(error).__name__}"] += 1
                stays = False
            if not stays:
                if writer is not None:
                    writer.close()
                reader = writer = None

    async def run(self):
        await asyncio.gather(*(self.run_client() for _ in range(NUM_CLIENTS)))


def run_load(port, kinds, num_requests, rate, results):
    load = Load(port, kinds, num_requests, rate)
    asyncio.run(load.run())
    results.put(("load", {
        "seconds": round(time.monotonic() - load.begin, 2),
        "cpu_seconds": round(cpu_seconds(), 2),
        "requests": sum(map(len, load.latencies.values())),
        "milliseconds": {name: milliseconds(values) for name, values in sorted(load.latencies.items())},
        "errors": dict(load.errors)}))


class Others:
    """Listeners to the events of a video, and clients that never finish their head."""

    def __init__(self, port, video_id):
        self.port, self.video_id = port, video_id
        self.num_events = collections.Counter()
        self.slow_ends = collections.Counter()
        self.num_whole = 0

    async def listen(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        writer.write(get(f"/v1/videos/{self.video_id}/events", Last_Event_ID="0"))
        steps = 0
        try:
            while line := await reader.readline():
                if line.startswith(b"event: "):
                    self.num_events[line[7:].decode().strip()] += 1
                    steps += line.startswith(b"event: step")
        finally:
            self.num_whole += steps == VIDEO["num_steps"]
            writer.close()

    async def be_slow(self):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nx: ")
                end = asyncio.create_task(reader.read(100))
                while not end.done():
                    writer.write(b"y")
                    await asyncio.wait([end], timeout=1)
                self.slow_ends[end.result()[:12].decode() or "closed"] += 1
                writer.close()
            except OSError as error:
                self.slow_ends[type(error).__name__] += 1
                await asyncio.sleep(1)

    async def run(self):
        slow = [asyncio.create_task(self.be_slow()) for _ in range(NUM_SLOW)]
        await asyncio.gather(*(self.listen() for _ in range(NUM_LISTENERS)))
        for task in slow:
            task.cancel()


def run_others(port, video_id, results):
    others = Others(port, video_id)
    asyncio.run(others.run())
    results.put(("others", {
        "cpu_seconds": round(cpu_seconds(), 2),
        "listeners": NUM_LISTENERS, "listeners_with_all_steps": others.num_whole,
        "events": dict(others.num_events),
        "slow_connections": NUM_SLOW, "ends_of_slow_connections": dict(others.slow_ends)}))


def ask_again_and_again(port, content, until, pause=0.005):
    """Latencies of one request after another on a blocking connection."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not until():
            begin = time.perf_counter()
            link.sendall(content)
            received = b""
            while b"\r\n\r\n" not in received:
                received += link.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += link.recv(65536)
            latencies.append(time.perf_counter() - begin)
            time.sleep(pause)
    return latencies


def run_probe(port, content, stop, name, results):
    results.put((name, milliseconds(ask_again_and_again(port, content, stop.is_set))))


def answer_constantly(listener):
    """A server that always answers the same, about as long as a video object."""
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1200\r\n\r\n" + 1200 * b"x"
    link, _ = listener.accept()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while link.recv(65536):
        link.sendall(text)


# ---- the measurement ----


class Measurement:
    def __init__(self, server, arguments):
        self.server, self.arguments = server, arguments
        self.results = multiprocessing.Queue()
        self.found = {}

    def collect(self, *processes):
        for _ in processes:
            name, values = self.results.get()
            self.found[name] = values
        for process in processes:
            process.join()

    def start(self, target, *args):
        process = multiprocessing.Process(target=target, args=args, daemon=True)
        process.start()
        return process

    def measure_client(self):
        """Latencies of the constant server."""
        listener = socket.create_server(("127.0.0.1", 0))
        constant = self.start(answer_constantly, listener)
        begin = time.monotonic()
        latencies = ask_again_and_again(listener.getsockname()[1], get("/v1/videos/x"),
                                        lambda: time.monotonic() - begin > 5)
        constant.join()
        self.found["retrieve, constant server"] = milliseconds(latencies)

    def make_video(self, name, beside=()):
        """Makes the video, with a probe, and with processes that `beside` starts for it."""
        video = self.server.create(**VIDEO)
        self.server.wait_for(video["id"], "in_progress")
        stop = multiprocessing.Event()
        probe = self.start(run_probe, self.server.port, get(f"/v1/videos/{video['id']}"), stop,
                           f"retrieve, {name}", self.results)
        others = [start(video["id"]) for start in beside]
        done = wait_until(lambda: self.look(video["id"]), "the video", MOST_SECONDS)
        if done["status"] != "completed":
            raise AssertionError(done["error"])
        stop.set()
        self.collect(probe, *others)
        self.found[f"video, {name}"] = {"inference_time_s": done["inference_time_s"],
                                        "stage_durations": done["stage_durations"]}
        return done["id"]

    def look(self, video_id):
        """The video, if it has ended. Seldom, since the probe does the asking."""
        time.sleep(0.2)
        video = self.server.video(video_id)
        return video if video["status"] in ("completed", "failed") else None

    def fill_queue(self):
        """Videos that wait until the measurement ends, so that all further ones are refused."""
        while self.server.post("/v1/videos", VIDEO | {"num_steps": 1000}).status == 200:
            pass

    def run(self):
        pid, arguments = self.server.pid, self.arguments
        self.measure_client()
        self.make_video("first")  # loads the model
        done = self.make_video("calm")
        self.found["rss_mb"] = {"before": rss_mb(pid)}
        cpu_before = cpu_seconds_of(pid)

        def start_load(video_id):
            self.fill_queue()
            return self.start(run_load, self.server.port, request_kinds(video_id, done),
                              arguments.requests, arguments.rate, self.results)

        def start_others(video_id):
            return self.start(run_others, self.server.port, video_id, self.results)

        loaded = self.make_video("under load", [start_load, start_others])
        self.found["server_cpu_seconds"] = round(cpu_seconds_of(pid) - cpu_before, 2)
        self.found["rss_mb"]["after"] = rss_mb(pid)
        same = self.server.content(loaded).body == self.server.content(done).body
        self.found["video, under load"]["same_bytes"] = same
        for video in self.server.all_videos():
            self.server.delete(f"/v1/videos/{video['id']}")
        time.sleep(2)
        self.found["rss_mb"]["after all videos were deleted"] = rss_mb(pid)
        return self.found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mochi")
    parser.add_argument("make_tiny_model")
    parser.add_argument("spiece_model")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="mochi-load-"))
    server = Server(data, ROOT / "models/micro", "--max-queue", 3, "--max-body", f"{MAX_BODY}B")
    try:
        found = Measurement(server, arguments).run()
        if server.terminate() != 0:
            raise AssertionError(server.lines)
    finally:
        server.kill()
        shutil.rmtree(data)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 1 if found["load"]["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
