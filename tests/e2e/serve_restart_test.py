"""`mochi serve`: its end, and what it continues at its next start.

Usage: serve_restart_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import os
import signal
import sys
import time
import unittest

from serve_support import LONG, ServeTest, digest, is_running, wait_until
from support import write_lora

# About a second of sampling, which can be interrupted.
MIDDLE = {"width": 128, "height": 96, "num_frames": 19, "num_steps": 150}
MOST_SECONDS = 10  # from a signal to the end of the process


class RestartTest(ServeTest):
    references = {}

    def reference(self, **fields):
        """The digest of the same video, made by the command line."""
        key = tuple(fields.items())
        if key not in self.references:
            flags = [word for name, value in key for word in ("--" + name.replace("_", "-"), value)]
            self.generate_ok(*flags, "--out", "reference.mp4", prompt="a ball")
            self.references[key] = digest(self.content("reference.mp4"))
        return self.references[key]

    def terminate(self, server, number=signal.SIGTERM):
        begin = time.monotonic()
        workers = server.workers()
        server.process.send_signal(number)
        self.assertEqual(server.wait(), 0, server.lines)
        self.assertLess(time.monotonic() - begin, MOST_SECONDS)
        self.assertFalse([pid for pid in workers if is_running(pid)])

    def interrupt(self, end):
        """A video is in progress and one waits when `end(server)` ends the server. Both are completed
        after the next start."""
        server = self.serve("--checkpoint-every", 1)
        running = server.create("a ball", seed=1, **MIDDLE)["id"]
        again = {"prompt": "a ball", "seed": 2}, {"Idempotency-Key": "second"}
        queued = server.post("/v1/videos", *again).json()["id"]
        stream = server.events(running, after=0)
        seen = [stream.next("step") for _ in range(20)]
        end(server)
        server = self.serve("--checkpoint-every", 1)
        self.assertEqual([video["id"] for video in server.all_videos()], [queued, running])
        self.assertEqual(server.post("/v1/videos", *again).json()["id"], queued)
        events = list(server.events(running, after=seen[-1].id))
        steps = [event.data["step"] for event in events if event.name == "step"]
        for each in (running, queued):
            video = server.wait_for(each)
            self.assertEqual(video["status"], "completed", video["error"])
        self.assertEqual(server.digest_of(running), self.reference(seed=1, **MIDDLE))
        self.assertEqual(server.digest_of(queued), self.reference(seed=2))
        # Sampling was continued, not begun again.
        self.assertEqual(steps[-1], MIDDLE["num_steps"])
        self.assertNotIn(1, steps)
        self.assertEqual(self.leftovers(server), [])

    def leftovers(self, server):
        """Files of the data folder other than those of finished videos and the database."""
        known = {"video.mp4", "video.mp4.json", "thumbnail.jpg", "spritesheet.jpg"}
        return sorted(str(path) for path in (server.data / "videos").rglob("*")
                      if path.is_file() and path.name not in known)

    def test_sigterm(self):
        self.interrupt(self.terminate)

    def test_sigint(self):
        server = self.serve()
        server.wait_for(server.create(**LONG)["id"], "in_progress")
        self.terminate(server, signal.SIGINT)

    def test_sigkill(self):
        def kill(server):
            workers = server.workers()
            server.kill()
            wait_until(lambda: not [pid for pid in workers if is_running(pid)],
                       "the worker to end with its server", 5)

        self.interrupt(kill)

    def test_death_of_the_worker(self):
        server = self.serve("--checkpoint-every", 1)
        video = server.create("a ball", seed=1, **MIDDLE)
        stream = server.events(video["id"], after=0)
        stream.next("step")
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        done = server.wait_for(video["id"])
        self.assertEqual(done["status"], "completed", done["error"])
        self.assertEqual(server.digest_of(video["id"]), self.reference(seed=1, **MIDDLE))
        self.assertEqual(server.get("/healthz").status, 200)

    def test_a_video_whose_workers_die_again_and_again(self):
        server = self.serve()
        video = server.create(**LONG)
        others = server.create()

        def kill_worker():
            status = server.video(video["id"])["status"]
            for pid in server.workers() if status == "in_progress" else ():
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
            return status == "failed"

        wait_until(kill_worker, "the video to fail")
        self.assertEqual(server.video(video["id"])["error"]["code"], "worker_crashed")
        self.assertEqual(server.wait_for(others["id"])["status"], "completed")

    def test_requests_at_the_end(self):
        server = self.serve()
        server.wait_for(server.create(**LONG)["id"], "in_progress")
        server.process.send_signal(signal.SIGTERM)
        answers = []
        while server.process.poll() is None:
            try:
                answers.append(server.post("/v1/videos", {"prompt": "late"}))
            except OSError:  # it no longer listens
                time.sleep(0.01)
        late = [answer for answer in answers if answer.status != 200]
        for answer in late:
            self.expect_refusal(answer, 503, "server_error", code="shutting_down")
            self.assertGreater(int(answer.headers["Retry-After"]), 0)
        # One that came before the signal was accepted, and is there.
        accepted = {answer.json()["id"] for answer in answers if answer.status == 200}
        server = self.serve()
        self.assertLessEqual(accepted, {video["id"] for video in server.all_videos()})

    def test_listeners_at_the_end(self):
        server = self.serve()
        video = server.create(**LONG)
        streams = [server.events(video["id"]) for _ in range(20)]
        streams[0].next("state", "step", "phase", "queue")
        self.terminate(server)
        for stream in streams:
            stream.close()

    def test_a_lora_that_is_gone(self):
        loras = self.folder / "loras"
        loras.mkdir()
        write_lora(loras / "strong.safetensors")
        server = self.serve("--lora-dir", loras)
        server.wait_for(server.create(**LONG)["id"], "in_progress")
        with_lora, without = server.create(lora="strong"), server.create()
        self.terminate(server)
        (loras / "strong.safetensors").unlink()
        server = self.serve("--lora-dir", loras)
        for video in server.all_videos():
            if video["num_steps"] == LONG["num_steps"]:
                server.delete(f"/v1/videos/{video['id']}")
        failed = server.wait_for(with_lora["id"])
        self.assertEqual(failed["status"], "failed")
        self.assertIn("strong", failed["error"]["message"])
        self.assertEqual(server.wait_for(without["id"])["status"], "completed")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
