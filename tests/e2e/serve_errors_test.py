"""`mochi serve`: what it refuses, from whom, and how much it accepts.

Usage: serve_errors_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import sqlite3
import sys
import time
import unittest

from serve_support import LONG, ServeTest, Server, encode_form, wait_until

INVALID = "invalid_request_error"
ALICE, BOB = "alice's-key-0123456789", "bob's-key-0123456789"
NO_VIDEO = "video_" + 24 * "0"

# Body → the field that the error names.
BAD_FIELDS = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["x"]}, "prompt"),
    ({"model": "sora-2"}, "model"),
    ({"input_reference": "x"}, "input_reference"),
    ({"colour": 1}, "colour"),
    ({"noise": "/etc/passwd"}, "noise"),
    ({"chipmunk_config": "/etc/passwd"}, "chipmunk_config"),
    ({"out": "/tmp/x.mp4"}, "out"),
    ({"size": "64"}, "size"),
    ({"size": "64x48x2"}, "size"),
    ({"size": "63x48"}, "size"),
    ({"size": "64x48", "width": 64}, {"size", "width"}),
    ({"seconds": 1, "num_frames": 13}, {"seconds", "num_frames"}),
    ({"seconds": "x"}, "seconds"),
    ({"seconds": -1}, "seconds"),
    ({"width": 63}, "width"),
    ({"width": "64.5"}, "width"),
    ({"height": 0}, "height"),
    ({"height": -16}, "height"),
    ({"num_frames": 12}, "num_frames"),
    ({"seed": -1}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"seed": "any"}, "seed"),
    ({"num_steps": 0}, "num_steps"),
    ({"num_steps": 10001}, "num_steps"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"num_steps": 4, "num_inference_steps": 4}, {"num_steps", "num_inference_steps"}),
    ({"cfg_scale": "high"}, "cfg_scale"),
    ({"guidance_scale": "high"}, "guidance_scale"),
    ({"cfg_scale": 2, "guidance_scale": 2}, {"cfg_scale", "guidance_scale"}),
    ({"cfg_schedule": [1, 2], "num_steps": 4}, {"cfg_schedule", "num_steps"}),
    ({"cfg_schedule": []}, "cfg_schedule"),
    ({"cfg_schedule": "1,,2"}, "cfg_schedule"),
    ({"threshold_noise": 1}, "threshold_noise"),
    ({"linear_steps": 4}, "linear_steps"),
    ({"noise_source": "dice"}, "noise_source"),
    ({"skip": "slow"}, "skip"),
    ({"max_evaluations": 0}, "max_evaluations"),
    ({"fps": 0}, "fps"),
    ({"fps": "1/0"}, "fps"),
    ({"sparsity": {"attn": {"tops": 1}}}, "sparsity"),
    ({"sparsity": "{"}, "sparsity"),
    ({"sparsity": [1]}, "sparsity"),
    ({"no_sparsity": "perhaps"}, "no_sparsity"),
    ({"sparsity": {"attn": {}}, "no_sparsity": True}, {"sparsity", "no_sparsity"}),
    ({"lora": "unknown"}, "lora"),
    ({"lora": "../strong"}, "lora"),
    ({"lora": 5}, "lora"),
]
# JSON that is none, or not a request.
BAD_JSON = [b"", b"{", b"[]", b"null", b'"text"', b'{"prompt": "a"} x', b'{"prompt": "\xff"}',
            b'{"prompt": "\\ud800"}', b'{"prompt":' + 100_000 * b"[", b'{"seed": 1e999, "prompt": "a"}']


class RefusalTest(ServeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = Server(cls.shared / "data", cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        super().tearDownClass()

    def tearDown(self):
        """Nothing that is refused creates a video or ends the server."""
        created = self.server.all_videos()
        for video in created:
            self.server.delete(f"/v1/videos/{video['id']}")
        self.assertEqual([video["request"] for video in created], [])

    def expect_bad(self, answer, params):
        """Status 400 and one of these parameters."""
        self.expect_refusal(answer, 400, INVALID)
        self.assertIn(answer.json()["error"]["param"], params if isinstance(params, set) else {params})

    def test_fields(self):
        for fields, params in BAD_FIELDS:
            body = {"prompt": "a"} | fields if fields else fields
            for path in ("/v1/videos", "/v1/videos/estimate", "/v1/videos/sync"):
                if path.endswith("estimate") and params == "prompt" and not body.get("prompt"):
                    continue  # it takes no prompt for its time
                with self.subTest(path=path, body=body):
                    self.expect_bad(self.server.post(path, body), params)
            texts = {name: value for name, value in body.items() if isinstance(value, str)}
            if texts == body:
                with self.subTest(form=body):
                    self.expect_bad(self.server.post_form("/v1/videos", body.items()), params)

    def test_fields_that_occur_twice(self):
        answer = self.server.post("/v1/videos", b'{"prompt": "a", "prompt": "b"}',
                                  {"Content-Type": "application/json"})
        self.expect_bad(answer, {"prompt", None})
        answer = self.server.post_form("/v1/videos", [("prompt", "a"), ("prompt", "b")])
        self.expect_bad(answer, "prompt")

    def test_json_that_is_none(self):
        for body in BAD_JSON:
            with self.subTest(body[:30]):
                answer = self.server.post("/v1/videos", body, {"Content-Type": "application/json"})
                self.expect_bad(answer, {None, "prompt", "seed"})

    def test_forms_that_are_none(self):
        body, content_type = encode_form([("prompt", "a")])
        for wrong, its_type in ((body[:-10], content_type), (b"", content_type), (b"x", content_type),
                                (body, "multipart/form-data"),
                                (body, "multipart/form-data; boundary=other"),
                                (body.replace(b'; name="prompt"', b""), content_type)):
            with self.subTest(body=wrong[:60], type=its_type):
                self.expect_bad(self.server.post("/v1/videos", wrong, {"Content-Type": its_type}),
                                {None, "prompt"})

    def test_a_file_in_a_form(self):
        boundary = "b"
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n'
                f'--{boundary}\r\nContent-Disposition: form-data; name="input_reference"; '
                f'filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x00\x01\r\n--{boundary}--\r\n')
        answer = self.server.post("/v1/videos", body.encode(),
                                  {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        self.expect_bad(answer, "input_reference")

    def test_other_types_of_bodies(self):
        for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "image/png"}, {},
                        {"Content-Type": "application/x-www-form-urlencoded"}):
            with self.subTest(headers):
                answer = self.server.post("/v1/videos", b"prompt=a", headers)
                self.expect_refusal(answer, 415, INVALID)

    def test_unknown_routes_and_videos(self):
        for path in ("/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/videos/", "/v1/videos/x",
                     f"/v1/videos/{NO_VIDEO}", f"/v1/videos/{NO_VIDEO}/content",
                     f"/v1/videos/{NO_VIDEO}/events", f"/v1/videos/{NO_VIDEO}/nothing",
                     "/v1/models/other", "//v1/videos", "/index.php"):
            with self.subTest(path):
                answer = self.server.get(path)
                self.expect_refusal(answer, 404, INVALID)
        self.assertEqual(self.server.delete(f"/v1/videos/{NO_VIDEO}").status, 404)
        self.assertEqual(self.server.post(f"/v1/videos/{NO_VIDEO}/remix", {"prompt": "a"}).status, 404)

    def test_paths_that_lead_elsewhere(self):
        for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd",
                     "/v1/videos/..%2f..%2fmochi.db/content", "/%00", "/%zz", "/page.js%00.html"):
            with self.subTest(path):
                answer = self.server.get(path)
                self.assertIn(answer.status, (400, 404))
                self.assertNotIn(b"root:", answer.body)

    def test_methods(self):
        for method, path, allowed in (
                ("PUT", "/v1/videos", {"GET", "POST"}), ("DELETE", "/v1/videos", {"GET", "POST"}),
                ("POST", f"/v1/videos/{NO_VIDEO}", {"GET", "DELETE"}),
                ("PATCH", f"/v1/videos/{NO_VIDEO}", {"GET", "DELETE"}),
                ("POST", f"/v1/videos/{NO_VIDEO}/content", {"GET"}),
                ("GET", f"/v1/videos/{NO_VIDEO}/remix", {"POST"}),
                ("POST", f"/v1/videos/{NO_VIDEO}/events", {"GET"}),
                ("PUT", "/v1/videos/estimate", {"POST"}), ("POST", "/v1/models", {"GET"}),
                ("POST", "/v1/status", {"GET"}), ("DELETE", "/metrics", {"GET"}),
                ("POST", "/healthz", {"GET"}), ("POST", "/openapi.json", {"GET"}),
                ("POST", "/", {"GET"}), ("OPTIONS", "/v1/videos", {"GET", "POST"})):
            with self.subTest(method=method, path=path):
                answer = self.server.request(method, path, b"" if method != "DELETE" else None)
                self.expect_refusal(answer, 405, INVALID)
                offered = {each.strip() for each in answer.headers["Allow"].split(",")}
                self.assertLessEqual(allowed, offered)
                self.assertNotIn(method, offered)

    def test_parameters_of_routes(self):
        for path, param in (("/v1/videos?limit=1&limit=2", "limit"), ("/v1/videos?limit=%zz", "target")):
            with self.subTest(path):
                self.expect_bad(self.server.get(path), param)

    def test_heads_without_bodies(self):
        for path in ("/healthz", "/", "/v1/status", "/nothing"):
            with self.subTest(path):
                answer = self.server.request("HEAD", path)
                self.assertIn(answer.status, (200, 404, 405))
                self.assertEqual(answer.body, b"")
                self.assertTrue(answer.headers["x-request-id"])

    # ---- HTTP itself ----

    def test_requests_that_are_none(self):
        host = b"Host: 127.0.0.1\r\n"
        for content in (b"\r\n\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n" + host + b"\r\n",
                        b"GET  / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50,
                        b"GET / HTTP/1.1\r\n" + host + b"bad header\r\n\r\n",
                        b"POST /v1/videos HTTP/1.1\r\n" + host + b"Content-Length: x\r\n\r\n",
                        b"POST /v1/videos HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                        b"POST /v1/videos HTTP/1.1\r\n" + host +
                        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"):
            with self.subTest(content[:40]):
                received = self.server.send_raw(content, ends=True)
                self.assertTrue(not received or received.startswith(b"HTTP/1.1 4"), received[:200])
                self.assertEqual(self.server.get("/healthz").status, 200)

    def test_a_head_that_is_too_large(self):
        received = self.server.send_raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nx: " + 300_000 * b"y" +
                                        b"\r\n\r\n")
        self.assertTrue(not received or received.startswith(b"HTTP/1.1 431"), received[:200])
        many = b"".join(b"x-%d: y\r\n" % number for number in range(50_000))
        received = self.server.send_raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + many + b"\r\n")
        self.assertTrue(not received or received.startswith(b"HTTP/1.1 431"), received[:200])

    def test_bodies_without_a_length(self):
        """Chunks have extensions and trailers without an end, and proxies read odd codings otherwise."""
        for coding in (b"chunked", b"identity", b"chunked, identity", b"xchunked"):
            with self.subTest(coding):
                received = self.server.send_raw(
                    b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                    b"Transfer-Encoding: " + coding + b"\r\n\r\n1;" + 5000 * b"a")
                self.assertTrue(received.startswith(b"HTTP/1.1 411"), received[:200])
                self.assertIn(b"Content-Length", received)

    def test_a_head_that_comes_too_slowly(self):
        begin = time.monotonic()
        received = self.server.send_raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nx: ")
        self.assertTrue(received.startswith(b"HTTP/1.1 408"), received[:100])
        self.assertLess(time.monotonic() - begin, 30)

    # ---- headers, browsers ----

    def test_headers_of_every_answer(self):
        ids = set()
        for path in ("/", "/v1/videos", "/nothing", "/openapi.json", "/metrics", "/healthz"):
            with self.subTest(path):
                answer = self.server.get(path)
                headers = answer.headers
                self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
                self.assertEqual(headers["Referrer-Policy"], "no-referrer")
                self.assertEqual(headers["Cross-Origin-Opener-Policy"], "same-origin")
                self.assertEqual(headers["Cross-Origin-Resource-Policy"], "same-origin")
                self.assertIsNone(headers["Access-Control-Allow-Origin"])
                self.assertTrue(headers["x-request-id"])
                ids.add(headers["x-request-id"])
        self.assertEqual(len(ids), 6)
        policy = self.server.get("/").headers["Content-Security-Policy"]
        for rule in ("default-src 'self'", "img-src 'self' data: blob:", "media-src 'self' blob:",
                     "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                     "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            self.assertIn(rule, policy)
        self.assertNotIn("unsafe", policy)

    def test_other_sites_and_hosts(self):
        port = self.server.port
        for origin, status in ((f"http://127.0.0.1:{port}", 200), ("http://evil.example", 403),
                               ("http://127.0.0.1:1", 403), ("null", 403),
                               (f"http://127.0.0.1.evil.example:{port}", 403)):
            with self.subTest(origin):
                answer = self.server.get("/v1/videos", {"Origin": origin})
                self.assertEqual(answer.status, status)
                if status == 403:
                    self.expect_refusal(answer, 403, "permission_error")
        for host, status in ((f"localhost:{port}", 200), ("127.0.0.1", 200), (f"[::1]:{port}", 200),
                             ("192.168.7.7", 200), ("evil.example", 403),
                             (f"127.0.0.1.evil.example:{port}", 403), ("", 403)):
            with self.subTest(host):
                answer = self.server.get("/v1/videos", {"Host": host})
                self.assertIn(answer.status, {status, 400} if not host else {status})
        answer = self.server.post("/v1/videos", {"prompt": "a"}, {"Origin": "http://evil.example"})
        self.assertEqual(answer.status, 403)


class KeysTest(ServeTest):
    def serve_with_keys(self, *flags):
        return self.serve("--api-keys", self.write_keys(alice=ALICE, bob=BOB), *flags)

    def test_keys(self):
        server = self.serve_with_keys()
        for headers in ({}, {"Authorization": ""}, {"Authorization": "Bearer"},
                        {"Authorization": f"Bearer {ALICE}x"}, {"Authorization": f"Bearer {ALICE[:-1]}"},
                        {"Authorization": f"Basic {ALICE}"}, {"Authorization": ALICE}):
            for path in ("/v1/videos", "/v1/models", "/v1/status", "/metrics",
                         f"/v1/videos/{NO_VIDEO}", f"/v1/videos/{NO_VIDEO}/events"):
                with self.subTest(headers=headers, path=path):
                    self.expect_refusal(server.get(path, headers), 401, "authentication_error",
                                        code="invalid_api_key")
        self.assertEqual(server.post("/v1/videos", {"prompt": "a"}).status, 401)
        for path in ("/", "/openapi.json", "/healthz", "/readyz"):
            self.assertEqual(server.get(path).status, 200, path)
        for key in (ALICE, BOB):
            self.assertEqual(server.get("/v1/videos", key=key).status, 200)
        self.assertEqual(server.get("/v1/videos", {"Authorization": f"bearer {ALICE}"}).status, 200)
        # With keys, every name of the host is accepted; other sites are not.
        self.assertEqual(server.get("/v1/videos", {"Host": "video.example.org"}, ALICE).status, 200)
        self.assertEqual(server.get("/v1/videos", {"Origin": "http://evil.example"}, ALICE).status, 403)
        everything = "\n".join(server.lines)
        self.assertNotIn(ALICE, everything)

    def test_owners_do_not_see_each_other(self):
        server = self.serve_with_keys()
        headers = {"Idempotency-Key": "one"}
        hers = server.create("hers", key=ALICE, headers=headers)
        his = server.create("his", key=BOB, headers=headers)
        self.assertNotEqual(hers["id"], his["id"])
        path = f"/v1/videos/{hers['id']}"
        for method, route, body in (("GET", "", None), ("GET", "/content", None), ("GET", "/events", None),
                                    ("DELETE", "", None), ("POST", "/remix", {"prompt": "x"})):
            with self.subTest(method=method, route=route):
                answer = server.request(method, path + route, body, key=BOB)
                missing = server.request(method, f"/v1/videos/{NO_VIDEO}{route}", body, key=BOB)
                self.assertEqual((answer.status, missing.status), (404, 404))
                self.assertEqual(answer.body.replace(hers["id"].encode(), b"ID"),
                                 missing.body.replace(NO_VIDEO.encode(), b"ID"))
        for key, own in ((ALICE, hers), (BOB, his)):
            self.assertEqual([v["id"] for v in server.all_videos(key)], [own["id"]])
            done = server.wait_for(own["id"], key=key)
            self.assertEqual(done["status"], "completed")
            self.assertEqual(server.content(own["id"], key=key).status, 200)
        self.assertEqual(server.get(f"/v1/videos?after={hers['id']}", key=BOB).status, 400)

    def test_key_files(self):
        path = self.folder / "keys"
        for text, parts in (("", ["keys"]), ("# none\n\n", ["keys"]), ("short\n", ["keys:1"]),
                            (f"{ALICE}\nshort\n", ["keys:2"]), (f"a: {ALICE}\nb: {ALICE}\n", ["keys:2"]),
                            ("a key with spaces\n", ["keys:1"])):
            with self.subTest(text):
                path.write_text(text)
                self.refuse_to_serve("--model-dir", self.model, "--api-keys", path, parts=parts)
        self.refuse_to_serve("--model-dir", self.model, "--api-keys", self.folder / "none",
                             parts=["none"])

    def test_addresses_without_keys(self):
        self.refuse_to_serve("--model-dir", self.model, "--host", "0.0.0.0",
                             parts=["--host", "--api-keys", "--no-auth"])
        server = Server(self.folder / "data", self.model, "--host", "0.0.0.0", "--no-auth")
        self.addCleanup(server.kill)
        self.assertEqual(server.get("/v1/videos").status, 200)
        self.assertEqual(server.get("/v1/videos", {"Origin": "http://evil.example"}).status, 403)


class LimitsTest(ServeTest):
    def fill(self, server, count, key=None):
        """So many videos that do not end."""
        return [server.create(key=key, **LONG) for _ in range(count)]

    def test_queue(self):
        server = self.serve("--max-queue", 2)
        first, _ = self.fill(server, 2)
        server.wait_for(first["id"], "in_progress")
        while server.post("/v1/videos", {"prompt": "a"} | LONG).status == 200:
            pass  # the one in progress may not count
        for path in ("/v1/videos", "/v1/videos/sync", f"/v1/videos/{first['id']}/remix"):
            with self.subTest(path):
                answer = server.post(path, {"prompt": "a"})
                self.expect_refusal(answer, 429, "rate_limit_error", ["2"], code="queue_full")
                self.assertGreater(int(answer.headers["Retry-After"]), 0)
        self.assertLessEqual(len(server.all_videos()), 3)
        self.assertEqual(server.get("/v1/status").json()["queue"]["max"], 2)
        server.delete(f"/v1/videos/{first['id']}")
        wait_until(lambda: server.post("/v1/videos", {"prompt": "a"}).status == 200, "a place")

    def test_queue_of_one_key(self):
        server = self.serve("--api-keys", self.write_keys(alice=ALICE, bob=BOB), "--max-queue-per-key", 1)
        (first,) = self.fill(server, 1, ALICE)
        server.wait_for(first["id"], "in_progress", key=ALICE)
        while (answer := server.post("/v1/videos", {"prompt": "a"} | LONG, key=ALICE)).status == 200:
            pass
        self.expect_refusal(answer, 429, "rate_limit_error", ["1"], code="key_queue_full")
        self.assertGreater(int(answer.headers["Retry-After"]), 0)
        self.assertEqual(server.post("/v1/videos", {"prompt": "a"}, key=BOB).status, 200)
        self.assertLessEqual(len(server.all_videos(ALICE)), 2)

    def test_size_of_requests(self):
        server = self.serve("--max-work", 64 * 48 * 13 * 4, "--max-prompt-length", 20, "--max-body", "2KB")
        (model,) = server.get("/v1/models").json()["data"]
        self.assertEqual((model["limits"]["max_work"], model["limits"]["max_prompt_length"]),
                         (64 * 48 * 13 * 4, 20))
        self.assertEqual(server.post("/v1/videos", {"prompt": 20 * "ä"}).status, 200)
        for fields, param in (({"prompt": 21 * "ä"}, "prompt"),
                              ({"prompt": "a", "negative_prompt": 21 * "b"}, "negative_prompt")):
            self.expect_refusal(server.post("/v1/videos", fields), 400, INVALID, ["20"], param=param)
        answer = server.post("/v1/videos", {"prompt": "a", "num_steps": 5})
        self.expect_refusal(answer, 400, INVALID, [str(64 * 48 * 13 * 4)])
        for path in ("/v1/videos", "/v1/videos/estimate"):
            answer = server.post(path, {"prompt": 3000 * "a"})
            self.expect_refusal(answer, 413, INVALID)
        received = server.send_raw(
            b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000000\r\n\r\n{")
        self.assertTrue(received.startswith(b"HTTP/1.1 413"), received[:100])

    def test_connections(self):
        server = self.serve("--max-connections", 4)
        held = []
        for _ in range(4):
            held.append(server.connect())
            held[-1].request("GET", "/healthz")
            held[-1].getresponse().read()
        received = server.send_raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        self.assertTrue(not received or received.startswith(b"HTTP/1.1 503"), received[:100])
        for connection in held:
            connection.close()

        def answers():
            try:
                return server.get("/healthz").status == 200
            except OSError:
                return False

        wait_until(answers, "the server to accept connections again")


class StartTest(ServeTest):
    """Flags and data folders that are refused."""

    def refuse(self, *flags, parts, data="data"):
        with self.subTest(flags):
            self.refuse_to_serve("--model-dir", self.model, *flags, parts=parts, data=data)

    def test_flags(self):
        (self.folder / "file").write_text("x")
        for flag, value in (("--port", "65536"), ("--port", "x"), ("--port", "-1"), ("--host", "no such"),
                            ("--max-queue", "0"), ("--max-queue-per-key", "-1"), ("--max-work", "-1"),
                            ("--max-prompt-length", "-1"), ("--max-body", "x"), ("--max-connections", "0"),
                            ("--keep", "30x"), ("--keep", "0d"), ("--idle-unload", "x"),
                            ("--checkpoint-every", "-1"), ("--gpus", "a"), ("--gpus", "0,0"),
                            ("--lora-dir", self.folder / "none"), ("--lora-dir", self.folder / "file"),
                            ("--model-name", ""), ("--device", "tpu")):
            self.refuse(flag, value, parts=[flag])
        self.refuse("--unknown", parts=["--unknown"])
        self.refuse("word", parts=["word"])
        self.refuse_to_serve("--model-dir", self.folder / "none", parts=["none"])
        self.refuse("--gpus", "0", "--device", "cpu", parts=["--gpus"])
        self.assertFalse((self.folder / "data" / "mochi.db").exists())

    def test_data_folders(self):
        (self.folder / "file").write_text("x")
        self.refuse(parts=["file"], data="file")
        folder = self.folder / "data"
        server = self.serve()
        self.refuse(parts=["data"])  # a second server
        self.assertEqual(server.get("/healthz").status, 200)
        server.create()
        self.assertEqual(server.terminate(), 0)
        good = (folder / "mochi.db").read_bytes()
        with sqlite3.connect(folder / "mochi.db") as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute(f"PRAGMA user_version = {version + 1}")
        database.close()
        newer = (folder / "mochi.db").read_bytes()
        self.refuse(parts=["mochi.db", str(version), str(version + 1)])
        self.assertEqual((folder / "mochi.db").read_bytes(), newer)
        for damaged in (b"not a database" * 1000, good[:100] + 4000 * b"\xff" + good[4100:]):
            (folder / "mochi.db").write_bytes(damaged)
            self.refuse(parts=["mochi.db"])
        (folder / "mochi.db").write_bytes(good)
        self.assertEqual(len(self.serve().all_videos()), 1)

    def test_a_port_that_is_taken(self):
        server = self.serve()
        self.refuse("--port", server.port, parts=[str(server.port)], data="other")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
