"""Kills `mochi serve` and its worker at random moments while the queue is full: no video is lost,
doubled or half-written, and each is that of an uninterrupted run, byte for byte.

Usage: serve_kill_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL [NUM_KILLS|--long [SEED]]
"""

import collections
import contextlib
import dataclasses
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unittest

from serve_support import ServeTest, digest, is_running, jpeg_size, wait_until
from support import MOCHI

EXTENT = sys.argv[4] if len(sys.argv) > 4 else "6"
NUM_KILLS = 100 if EXTENT == "--long" else int(EXTENT)
SEED = int(sys.argv[5]) if len(sys.argv) > 5 else random.randrange(1 << 32)
QUEUE = 5  # videos that wait or run at any time
SIZE = {"width": 128, "height": 96, "num_frames": 19, "num_steps": 40}
REQUESTS = [
    {"prompt": "a ball", "seed": 1, **SIZE},
    {"prompt": "a cube", "sparsity": {"attn": {"top_keys": 0.3, "first_n_dense_layers": 0,
                                               "full_step_every": 4}}, "seed": 2, **SIZE},
    {"prompt": "a ring", "skip": "fast", "seed": 3, **SIZE},
    {"prompt": "a star", "seed": 4},
]
FILES = {"video.mp4", "video.mp4.json", "thumbnail.jpg", "spritesheet.jpg"}
GONE = (OSError, http.client.HTTPException)  # the server was killed


@dataclasses.dataclass
class Order:
    """A video that was ordered: once, however often the order is sent."""

    key: str
    kind: int  # of REQUESTS
    id: str = ""  # empty: no answer came yet
    status: str = ""
    is_deleted: bool = False


class ServeKillTest(ServeTest):
    flags = ("--checkpoint-every", 2)

    def setUp(self):
        super().setUp()
        self.draw = random.Random(SEED)
        self.orders, self.hit = [], set()
        self.killed = collections.Counter()
        calm = self.serve(data="calm")
        self.wanted = [digest(calm.post("/v1/videos/sync", request).body) for request in REQUESTS]
        calm.kill()

    # ---- orders ----

    def send(self, server, order):
        answer = server.post("/v1/videos", REQUESTS[order.kind], {"Idempotency-Key": order.key})
        self.assertEqual(answer.status, 200, answer.body)
        self.assertIn(order.id, ("", answer.json()["id"]))
        order.id = answer.json()["id"]

    def look(self, server, order):
        """Takes the state of a video; what was completed stays so."""
        video = server.video(order.id)
        if order.status == "completed":
            self.assertEqual(video["status"], "completed")
        self.assertNotEqual(video["status"], "failed", video["error"])
        order.status = video["status"]

    def remove(self, server, order):
        """Deletes a video; a deletion whose answer was lost is repeated."""
        order.is_deleted = True
        self.assertIn(server.delete(f"/v1/videos/{order.id}").status, (200, 404))
        self.orders.remove(order)

    def keep_full(self, server):
        """Sends orders, one of them twice, and deletes some videos, until the server is gone."""
        with contextlib.suppress(*GONE):
            while True:
                for order in [order for order in self.orders if order.is_deleted]:
                    self.remove(server, order)
                for order in self.orders:
                    if not order.id:
                        self.send(server, order)
                    if order.status != "completed":
                        self.look(server, order)
                done = [order for order in self.orders if order.status == "completed"]
                if len(done) > QUEUE:
                    self.remove(server, self.draw.choice(done))
                if len(self.orders) - len(done) < QUEUE:
                    self.orders.append(Order(f"order {self.draw.random()}",
                                             self.draw.randrange(len(REQUESTS))))
                    self.send(server, self.orders[-1])
                else:
                    time.sleep(0.02)

    # ---- kills ----

    def kill_server(self, server, seconds, other_timer=None):
        workers = []

        def kill():
            workers.extend(server.workers())
            server.process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        self.keep_full(server)
        timer.join()
        if other_timer:
            other_timer.join()  # it lets a stopped worker go on, which may not yet be tied to its server
        server.wait()
        wait_until(lambda: not any(map(is_running, workers)), "the worker to end with its server")

    def kill_worker(self, server, seconds):
        """Kills the worker, and lets the server live a little longer. No video is hit twice, since
        one that always ends its worker fails."""

        def kill():
            workers = server.workers()  # asked once: a killed server has no children

            def signal_workers(number):
                for pid in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)

            # A worker that is stopped first cannot turn to another video in between.
            signal_workers(signal.SIGSTOP)
            time.sleep(0.05)
            with contextlib.suppress(*GONE):
                [worker] = server.get("/v1/status").json()["workers"]
                if worker["video_id"] and worker["video_id"] not in self.hit:
                    self.hit.add(worker["video_id"])
                    self.killed["worker"] += 1
                    return signal_workers(signal.SIGKILL)
            signal_workers(signal.SIGCONT)

        timer = threading.Timer(seconds / 2, kill)
        timer.start()
        self.kill_server(server, seconds, timer)

    def kill_start(self, seconds):
        """Kills a server that has perhaps not opened its database yet."""
        child = subprocess.Popen([MOCHI, "serve", "--port", "0", "--data-dir", self.folder / "data",
                                  "--model-dir", self.model], stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        child.kill()
        child.wait()

    # ---- what must hold ----

    def expect_whole_files(self):
        kinds = {order.id: order.kind for order in self.orders}
        for folder in (self.folder / "data" / "videos").glob("video_*"):
            video = folder / "video.mp4"
            if video.exists() and folder.name in kinds:
                self.assertEqual(digest(video.read_bytes()), self.wanted[kinds[folder.name]], folder.name)
            if (folder / "video.mp4.json").exists():
                json.loads((folder / "video.mp4.json").read_text())
            for picture in folder.glob("*.jpg"):
                jpeg_size(picture.read_bytes())

    def expect_all_videos(self, server):
        """Every order is one video, complete; nothing else is there."""
        for order in [order for order in self.orders if order.is_deleted]:
            self.remove(server, order)
        for order in self.orders:
            self.send(server, order)
        for order in self.orders:
            video = server.wait_for(order.id)
            self.assertEqual(video["status"], "completed", video["error"])
            self.assertEqual(server.digest_of(order.id), self.wanted[order.kind])
            for variant in ("thumbnail", "spritesheet"):
                jpeg_size(server.content(order.id, variant=variant).body)
            self.assertTrue(server.content(order.id, variant="json").json()["request"])
        ids = sorted(order.id for order in self.orders)
        self.assertEqual(sorted(video["id"] for video in server.all_videos()), ids)
        self.assertEqual(server.terminate(), 0)
        videos = self.folder / "data" / "videos"
        self.assertEqual(sorted(path.name for path in videos.iterdir()), ids)
        self.assertEqual({path.name for path in videos.glob("*/*")}, FILES)
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "mochi.db")) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_random_moments(self):
        print(f"{NUM_KILLS} kills with seed {SEED}", file=sys.stderr)
        while self.killed.total() < NUM_KILLS:
            seconds, dice = self.draw.uniform(0, 2), self.draw.random()
            if dice < 0.15:
                self.kill_start(seconds / 10)
                self.killed["start"] += 1
                continue
            server = self.serve(*self.flags)
            (self.kill_worker if dice < 0.5 else self.kill_server)(server, seconds)
            self.killed["server"] += 1
            self.expect_whole_files()
        self.expect_all_videos(self.serve(*self.flags))
        print(f"killed {dict(self.killed)}, {len(self.orders)} videos at the end", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
