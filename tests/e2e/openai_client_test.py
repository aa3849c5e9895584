"""The `openai` package against `mochi serve`: its video methods work, and errors are its exceptions.

Usage: openai_client_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL

Runs with the Python of .venv (tests/requirements.txt) if this one has no such package; without both, it
is skipped with exit status 77.
"""

import importlib.util
import os
import sys
import unittest
from pathlib import Path

VENV_PYTHON = Path(__file__).resolve().parents[2] / ".venv/bin/python"
if importlib.util.find_spec("openai") is None:
    if VENV_PYTHON.exists() and Path(sys.prefix) != VENV_PYTHON.parents[1]:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
    print("the package openai is not installed (tests/requirements.txt)", file=sys.stderr)
    sys.exit(77)

import openai
from openai import OpenAI

from serve_support import LONG, ServeTest, Server, digest, jpeg_size
from support import PROMPT

KEY = "the-key-of-a-test-0123456789"
MISSING = "video_" + 24 * "0"


class OpenAiClientTest(ServeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        keys = cls.shared / "keys"
        keys.write_text(f"test: {KEY}\n")
        keys.chmod(0o600)
        cls.server = Server(cls.shared / "data", cls.model, "--api-keys", keys, "--max-queue", 3,
                            "--max-body", "4KB", key=KEY)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        super().tearDownClass()

    def client(self, key=KEY, **options):
        client = OpenAI(base_url=f"http://127.0.0.1:{self.server.port}/v1", api_key=key, **options)
        self.addCleanup(client.close)
        return client

    def tearDown(self):
        for video in self.server.all_videos():
            self.server.delete(f"/v1/videos/{video['id']}")
        super().tearDown()

    def num_requests(self):
        """Requests that the server has answered, by its own count."""
        lines = self.server.get("/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith("mochi_http_requests_total"))

    def test_create_and_poll(self):
        client = self.client()
        video = client.videos.create_and_poll(
            prompt=PROMPT, model=self.server.model, size="64x48", seconds="1",
            extra_body={"seed": 7, "num_steps": 3, "cfg_scale": 2.5, "no_sparsity": True})
        self.assertEqual((video.status, video.progress, video.error), ("completed", 100, None))
        self.assertEqual((video.size, video.prompt, video.object), ("64x48", PROMPT, "video"))
        self.assertEqual(video.request["num_frames"], 25)
        self.assertEqual((video.request["seed"], video.request["cfg_scale"]), (7, 2.5))
        again = client.videos.retrieve(video.id)
        self.assertEqual(again, video)
        self.generate_ok("--num-frames", 25, "--seed", 7, "--num-steps", 3, "--cfg-scale", 2.5, "--out",
                         "a.mp4")
        wanted = digest(self.content("a.mp4"))
        self.assertEqual(digest(client.videos.download_content(video.id).read()), wanted)
        target = self.folder / "b.mp4"
        with client.videos.with_streaming_response.download_content(video.id) as response:
            response.stream_to_file(target)
        self.assertEqual(digest(self.content("b.mp4")), wanted)
        for variant, size in (("thumbnail", (64, 48)), ("spritesheet", (256, 192))):
            picture = client.videos.download_content(video.id, variant=variant).read()
            self.assertEqual(jpeg_size(picture), size)

    def test_remix_and_poll(self):
        client = self.client()
        source = client.videos.create_and_poll(prompt=PROMPT, extra_body={"seed": 3})
        remix = client.videos.remix(source.id, prompt="a cube")
        self.assertEqual(remix.remixed_from_video_id, source.id)
        remix = client.videos.poll(remix.id)
        self.assertEqual(remix.status, "completed")
        self.assertEqual(remix.request, source.request | {"prompt": "a cube"})

    def test_list_and_delete(self):
        client = self.client()
        ids = [client.videos.create(prompt=f"a ball {number}", extra_body=LONG).id for number in range(3)]
        self.assertEqual([video.id for video in client.videos.list(limit=1)], ids[::-1])
        self.assertEqual([video.id for video in client.videos.list(limit=2, order="asc")], ids)
        page = client.videos.list(limit=2)
        self.assertTrue(page.has_next_page())
        for each in ids:
            deleted = client.videos.delete(each)
            self.assertEqual((deleted.id, deleted.deleted, deleted.object), (each, True, "video.deleted"))
        self.assertEqual(client.videos.list().data, [])

    def test_lists_and_objects(self):
        """Values that a form of this client cannot carry."""
        sparsity = {"attn": {"top_keys": 0.5}}
        video = self.client().videos.create_and_poll(
            prompt=PROMPT, extra_headers={"Content-Type": "application/json"},
            extra_body={"cfg_schedule": [4, 3, 2, 1], "sparsity": sparsity})
        self.assertEqual((video.status, video.request["cfg_schedule"]), ("completed", [4, 3, 2, 1]))
        self.assertEqual(video.request["sparsity"]["attn"]["top_keys"], 0.5)

    def test_models(self):
        client = self.client()
        (model,) = client.models.list().data
        self.assertEqual(model.id, self.server.model)
        self.assertEqual(client.models.retrieve(model.id), model)

    def test_errors_are_its_exceptions(self):
        client = self.client()
        before = self.num_requests()
        cases = [
            (openai.BadRequestError, "size", lambda: client.videos.create(prompt="a", size="63x48")),
            (openai.BadRequestError, "input_reference",
             lambda: client.videos.create(prompt="a", input_reference=("a.png", b"png", "image/png"))),
            (openai.BadRequestError, "colour",
             lambda: client.videos.create(prompt="a", extra_body={"colour": 1})),
            (openai.NotFoundError, "id", lambda: client.videos.retrieve(MISSING)),
            (openai.NotFoundError, "id", lambda: client.videos.delete(MISSING)),
            (openai.NotFoundError, "id", lambda: client.videos.download_content(MISSING)),
            (openai.NotFoundError, "id", lambda: client.videos.remix(MISSING, prompt="a")),
            (openai.NotFoundError, "model", lambda: client.models.retrieve("sora-2")),
            (openai.AuthenticationError, "Authorization",
             lambda: self.client("wrong-key-0123456789").videos.list()),
            (openai.APIStatusError, None, lambda: client.videos.create(prompt=5000 * "a")),
        ]
        for kind, param, call in cases:
            with self.subTest(kind=kind.__name__, param=param):
                with self.assertRaises(kind) as caught:
                    call()
                self.assertEqual(caught.exception.param, param)
                self.assertTrue(caught.exception.message)
                self.assertTrue(caught.exception.request_id)
        # None of these is tried again. One request more is that for the metrics.
        self.assertLessEqual(self.num_requests() - before, len(cases) + 1)

    def test_a_full_queue_is_a_rate_limit(self):
        client = self.client(max_retries=1)
        # The one in progress may not count.
        with self.assertRaises(openai.RateLimitError) as caught:
            for _ in range(5):
                before = self.num_requests()
                client.videos.create(prompt="a", extra_body=LONG)
        self.assertEqual(caught.exception.code, "queue_full")
        # It tries again once, as told, and not before the time of Retry-After.
        self.assertLessEqual(self.num_requests() - before, 3)

    def test_polling_is_no_storm(self):
        client = self.client()
        before = self.num_requests()
        video = client.videos.create_and_poll(prompt=PROMPT, size="128x96",
                                              extra_body={"num_steps": 200, "num_frames": 19})
        self.assertEqual(video.status, "completed")
        self.assertLess(self.num_requests() - before, 10 + 10 * video.inference_time_s)


if __name__ == "__main__":
    # OpenAI's own video service ends, which the client reports at each call.
    unittest.main(argv=sys.argv[:1], warnings="ignore")
