"""`mochi serve`: videos over HTTP, from their creation to their end.

Usage: serve_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import http.client
import json
import re
import shutil
import sys
import unittest

from serve_support import (LONG, ServeTest, Server, decode_data_url, digest, jpeg_size, wait_until)
from support import NUM_FRAMES, PROMPT, write_lora

WIDTH, HEIGHT, NUM_STEPS = 64, 48, 4  # the tiny model's defaults
INVALID = "invalid_request_error"
# Sparse attention needs more tokens than those.
LARGER = {"width": 128, "height": 96, "num_frames": 19, "num_steps": 6}
SPARSITY = {"attn": {"top_keys": 0.3, "random_keys": 0.05, "first_n_dense_layers": 0,
                     "full_step_every": 4, "mbm": 64, "counts_multiple_of": 16, "delta": "half_merge"}}


class RoutesTest(ServeTest):
    """One server for all; each test knows its own videos only."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.loras = cls.shared / "loras"
        cls.loras.mkdir()
        write_lora(cls.loras / "strong.safetensors")
        cls.server = Server(cls.shared / "data", cls.model, "--lora-dir", cls.loras,
                            "--checkpoint-every", 1)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        super().tearDownClass()

    def finish(self, video):
        video = self.server.wait_for(video["id"])
        self.assertEqual(video["status"], "completed", video["error"])
        return video

    def make(self, **fields):
        return self.finish(self.server.create(**fields))

    def digest_of(self, video):
        return self.server.digest_of(video["id"])

    # ---- create ----

    def test_form_json_and_command_line_make_the_same_video(self):
        form = self.server.post_form("/v1/videos", [("prompt", PROMPT), ("seed", "7"),
                                                    ("size", "96x64"), ("cfg_schedule", "4,3,2,1")])
        self.assertEqual(form.status, 200, form.body)
        by_form = self.finish(form.json())
        by_json = self.make(prompt=PROMPT, seed=7, width=96, height="64", cfg_schedule=[4, 3, 2, 1])
        self.assertEqual(by_form["request"], by_json["request"])
        self.generate_ok("--seed", 7, "--width", 96, "--height", 64, "--cfg-schedule", "4,3,2,1",
                         "--out", "a.mp4")
        self.assertEqual(self.digest_of(by_form), digest(self.content("a.mp4")))
        self.assertEqual(self.digest_of(by_json), digest(self.content("a.mp4")))

    def test_the_object_of_a_video(self):
        created = self.server.create(prompt=PROMPT, seed="random", fps="24000/1001")
        self.expect_schema(self.server, created, "Video")
        self.assertEqual(created["remixed_from_video_id"], None)
        self.assertEqual((created["completed_at"], created["expires_at"], created["error"]),
                         (None, None, None))
        done = self.finish(created)
        self.expect_schema(self.server, done, "Video")
        same = ("id", "created_at", "prompt", "size", "seconds", "model", "request", "num_steps")
        self.assertEqual({key: created[key] for key in same}, {key: done[key] for key in same})
        self.assertEqual(done["progress"], 100)
        self.assertEqual((done["size"], done["prompt"]), (f"{WIDTH}x{HEIGHT}", PROMPT))
        self.assertAlmostEqual(float(done["seconds"]), NUM_FRAMES * 1001 / 24000, delta=0.051)
        self.assertGreaterEqual(done["completed_at"], done["created_at"])
        self.assertEqual((done["queue_position"], done["phase"]), (None, None))
        self.assertEqual((done["step"], done["num_steps"]), (NUM_STEPS, NUM_STEPS))
        self.assertGreater(done["inference_time_s"], 0)
        self.assertGreater(done["peak_memory_mb"], 1)
        self.assertLessEqual({"decoding", "sampling"}, set(done["stage_durations"]))
        request = done["request"]
        self.assertIsInstance(request["seed"], int)
        self.assertEqual(request["fps"], "24000/1001")
        self.assertEqual((request["width"], request["height"], request["num_frames"]),
                         (WIDTH, HEIGHT, NUM_FRAMES))

    def test_the_request_of_a_video_makes_it_again(self):
        first = self.make(seed="random", skip="careful", num_steps=20, lora="strong:0.5", fps=12)
        again = self.server.post("/v1/videos", first["request"])
        self.assertEqual(again.status, 200, again.body)
        second = self.finish(again.json())
        self.assertEqual(second["request"], first["request"])
        self.assertEqual(self.digest_of(second), self.digest_of(first))

    def test_fields_change_the_video(self):
        small = {"seed": 3, "width": 32, "height": 32, "num_frames": 7}
        base = self.digest_of(self.make(**small))
        for fields in ({"seed": 4}, {"negative_prompt": "a cube"}, {"num_inference_steps": 5},
                       {"guidance_scale": 1.5}, {"noise_source": "torch-cpu"}, {"lora": "strong"},
                       {"lora": ["strong:0.5"]}, {"threshold_noise": 0.1}, {"linear_steps": 1},
                       {"fps": 12},
                       {"max_evaluations": 2}):
            with self.subTest(fields):
                self.assertNotEqual(self.digest_of(self.make(**small | fields)), base)
        self.assertEqual(self.digest_of(self.make(**small, no_sparsity=True, skip="off")), base)

    def test_sparsity(self):
        dense = self.make(seed=1, **LARGER)
        sparse = self.make(seed=1, sparsity=SPARSITY, **LARGER)
        self.assertNotEqual(self.digest_of(sparse), self.digest_of(dense))
        form = self.server.post_form("/v1/videos", [("prompt", "a ball"), ("seed", 1), *LARGER.items(),
                                                    ("sparsity", json.dumps(SPARSITY))])
        self.assertEqual(self.digest_of(self.finish(form.json())), self.digest_of(sparse))
        answer = self.server.post(f"/v1/videos/{sparse['id']}/remix",
                                  {"prompt": "a ball", "no_sparsity": True})
        self.assertEqual(self.digest_of(self.finish(answer.json())), self.digest_of(dense))

    def test_without_a_seed_each_video_is_another(self):
        first, second = self.make(), self.make()
        self.assertNotEqual(first["request"]["seed"], second["request"]["seed"])
        self.assertNotEqual(self.digest_of(first), self.digest_of(second))

    def test_seconds_become_frames(self):
        for seconds, num_frames in {"1": 25, 1: 25, "0.01": 1, 0.5: 13, "0.8": 19}.items():
            with self.subTest(seconds):
                answer = self.server.post("/v1/videos/estimate", {"prompt": "x", "seconds": seconds})
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(answer.json()["num_frames"], num_frames)

    def test_idempotency_key(self):
        body, headers = {"prompt": PROMPT, "seed": 11}, {"Idempotency-Key": "order-17"}
        first = self.server.post("/v1/videos", body, headers)
        second = self.server.post("/v1/videos", body, headers)
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual(first.json()["id"], second.json()["id"])
        other = self.server.post("/v1/videos", body | {"seed": 12}, headers)
        self.expect_refusal(other, 422, INVALID, param="Idempotency-Key", code="idempotency_key_reused")
        third = self.server.post("/v1/videos", body, {"Idempotency-Key": "order-18"})
        self.assertNotEqual(third.json()["id"], first.json()["id"])

    # ---- retrieve, content ----

    def test_poll_header(self):
        video = self.server.create()
        answer = self.server.get(f"/v1/videos/{video['id']}")
        self.assertGreater(int(answer.headers["openai-poll-after-ms"]), 0)
        self.finish(video)

    def test_content_of_a_video_in_the_queue(self):
        video = self.server.create(**LONG)
        self.expect_refusal(self.server.content(video["id"]), 404, INVALID, code="video_not_ready")
        self.assertEqual(self.server.delete(f"/v1/videos/{video['id']}").status, 200)

    def test_variants(self):
        video = self.make(seed=2)
        for variant, media_type in {"video": "video/mp4", "thumbnail": "image/jpeg",
                                    "spritesheet": "image/jpeg", "json": "application/json"}.items():
            answer = self.server.content(video["id"], variant=variant)
            self.assertEqual((answer.status, answer.headers.get_content_type()), (200, media_type))
            saved = self.server.content(video["id"], variant=variant, download=1)
            self.assertEqual(digest(saved.body), digest(answer.body))
            self.assertRegex(saved.headers["Content-Disposition"],
                             r'^attachment; filename="[\w.-]+"')
        self.assertEqual(jpeg_size(self.server.content(video["id"], variant="thumbnail").body),
                         (WIDTH, HEIGHT))
        self.assertEqual(jpeg_size(self.server.content(video["id"], variant="spritesheet").body),
                         (4 * WIDTH, 4 * HEIGHT))  # 13 frames, 4 in a row
        sidecar = self.server.content(video["id"], variant="json").json()
        self.assertEqual(sidecar["request"]["seed"], 2)
        self.assertEqual(sidecar["video"]["num_frames"], NUM_FRAMES)
        self.expect_refusal(self.server.content(video["id"], variant="gif"), 400, INVALID,
                            param="variant")

    def test_the_json_of_a_video_reproduces_it_on_the_command_line(self):
        video = self.make(prompt=PROMPT, seed=9)
        (self.folder / "v.json").write_bytes(self.server.content(video["id"], variant="json").body)
        done = self.run_mochi("generate", "--from-json", "v.json", "--out", "a.mp4", "--quiet")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(digest(self.content("a.mp4")), self.digest_of(video))

    def test_ranges_and_entity_tags(self):
        video = self.make()
        path = f"/v1/videos/{video['id']}/content"
        whole = self.server.get(path)
        size, tag = len(whole.body), whole.headers["ETag"]
        self.assertRegex(tag, r'^"[^"]+"$')
        self.assertEqual(whole.headers["Accept-Ranges"], "bytes")
        for given, first, last in (("0-9", 0, 9), ("5-", 5, size - 1), ("-7", size - 7, size - 1),
                                   (f"10-{size + 5}", 10, size - 1), (f"{size - 1}-", size - 1, size - 1)):
            with self.subTest(given):
                part = self.server.get(path, {"Range": f"bytes={given}"})
                self.assertEqual(part.status, 206)
                self.assertEqual(part.headers["Content-Range"], f"bytes {first}-{last}/{size}")
                self.assertEqual(digest(part.body), digest(whole.body[first : last + 1]))
                self.assertEqual(part.headers["ETag"], tag)
        for given in (f"{size}-", f"{size + 1}-{size + 2}", "-0"):
            with self.subTest(given):
                answer = self.server.get(path, {"Range": f"bytes={given}"})
                self.assertEqual(answer.status, 416)
                self.assertEqual(answer.headers["Content-Range"], f"bytes */{size}")
        for given in ("bytes=0-1,3-4", "bytes=x", "lines=0-1"):
            with self.subTest(given):
                answer = self.server.get(path, {"Range": given})
                self.assertEqual((answer.status, digest(answer.body)), (200, digest(whole.body)))
        some = {"Range": "bytes=0-9"}
        self.assertEqual(self.server.get(path, some | {"If-Range": tag}).status, 206)
        self.assertEqual(self.server.get(path, some | {"If-Range": '"other"'}).status, 200)
        for given, status in ((tag, 304), (f'"other", W/{tag}', 304), ("*", 304), ('"other"', 200)):
            answer = self.server.get(path, {"If-None-Match": given})
            self.assertEqual((answer.status, len(answer.body)), (status, size if status == 200 else 0))
            self.assertEqual(answer.headers["ETag"], tag)

    def test_head_of_content(self):
        video = self.make()
        path = f"/v1/videos/{video['id']}/content"
        whole, head = self.server.get(path), self.server.request("HEAD", path)
        self.assertEqual((head.status, head.body), (200, b""))
        for name in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges"):
            self.assertEqual(head.headers[name], whole.headers[name])
        missing = self.server.request("HEAD", "/v1/videos/video_" + 24 * "0" + "/content")
        self.assertEqual((missing.status, missing.body), (404, b""))

    # ---- remix, sync, estimate ----

    def test_remix(self):
        source = self.make(prompt=PROMPT, seed=5, num_steps=3, cfg_scale=2, lora="strong:0.5")
        answer = self.server.post(f"/v1/videos/{source['id']}/remix", {"prompt": "a cube", "seed": 6})
        self.assertEqual(answer.status, 200, answer.body)
        remix = self.finish(answer.json())
        self.assertEqual(remix["remixed_from_video_id"], source["id"])
        changed = {"prompt": "a cube", "seed": 6}
        self.assertEqual(remix["request"], source["request"] | changed)
        alone = self.make(**source["request"] | changed)
        self.assertEqual(self.digest_of(remix), self.digest_of(alone))
        by_form = self.server.post_form(f"/v1/videos/{source['id']}/remix", [("prompt", "a ring")])
        self.assertEqual(self.finish(by_form.json())["request"], source["request"] | {"prompt": "a ring"})

    def test_sync(self):
        answer = self.server.post("/v1/videos/sync", {"prompt": PROMPT, "seed": 21})
        self.assertEqual((answer.status, answer.headers.get_content_type()), (200, "video/mp4"))
        video = self.server.video(answer.headers["x-video-id"])
        self.assertEqual(video["status"], "completed")
        self.assertEqual(self.digest_of(video), digest(answer.body))
        self.assertEqual(self.digest_of(self.make(prompt=PROMPT, seed=21)), digest(answer.body))

    def test_the_end_of_a_sync_client_cancels_the_video(self):
        prompt = "a video that nobody waits for"
        connection = self.server.connect()
        connection.request("POST", "/v1/videos/sync", json.dumps({"prompt": prompt} | LONG),
                           {"Content-Type": "application/json"})
        def found():
            return [v for v in self.server.all_videos() if v["prompt"] == prompt]
        (video,) = wait_until(found, "the video")
        connection.close()
        def is_over():
            answer = self.server.get(f"/v1/videos/{video['id']}")
            return answer.status == 404 or answer.json()["status"] == "failed"
        wait_until(is_over, "the end of the video")

    def test_estimate(self):
        body = {"prompt": PROMPT, "size": "80x64", "num_steps": 3}
        answer = self.server.post("/v1/videos/estimate", body)
        self.assertEqual(answer.status, 200, answer.body)
        self.expect_schema(self.server, answer.json(), "Estimate")
        self.make(**body)
        measured = self.server.post("/v1/videos/estimate", body).json()
        self.expect_schema(self.server, measured, "Estimate")
        self.assertEqual(measured["basis"], "measured")
        self.assertGreater(measured["seconds"], 0)
        self.assertEqual(measured["size"], "80x64")
        self.assertEqual((measured["width"], measured["height"], measured["num_frames"],
                          measured["num_steps"]), (80, 64, NUM_FRAMES, 3))
        self.assertEqual(measured["work"], 80 * 64 * NUM_FRAMES * 3)
        scaled = self.server.post("/v1/videos/estimate", body | {"size": "160x128"}).json()
        self.assertEqual(scaled["basis"], "scaled")
        self.assertGreater(scaled["seconds"], measured["seconds"])
        form = self.server.post_form("/v1/videos/estimate", [("prompt", "x")])
        self.assertEqual(form.status, 200, form.body)

    # ---- events ----

    def test_events_from_the_beginning_to_the_end(self):
        num_steps = 30
        # The worker stores the features of texts, and reads each text once.
        video = self.server.create("a text that no other test has", num_steps=num_steps,
                                   max_evaluations=20)
        stream = self.server.events(video["id"], after=0)
        self.assertEqual(stream.response.headers.get_content_type(), "text/event-stream")
        events = list(stream)
        self.assertEqual(stream.retry, 2000)
        stored = [event for event in events if event.id is not None]
        ids = [event.id for event in stored]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertLessEqual({event.name for event in events},
                             {"state", "phase", "step", "queue", "preview"})
        for event in events:
            self.expect_schema(self.server, event.data, f"{event.name.title()}Event")
            self.assertEqual(event.id is None, event.name in ("queue", "preview"), event)
        states = [event.data["status"] for event in stored if event.name == "state"]
        self.assertEqual(states, ["queued", "in_progress", "completed"])
        self.assertEqual(stored[0].name, "state")
        self.assertEqual((events[-1].name, events[-1].data["status"]), ("state", "completed"))
        steps = [event.data for event in stored if event.name == "step"]
        self.assertEqual([step["step"] for step in steps], list(range(1, num_steps + 1)))
        self.assertEqual(sum(step["evaluated"] for step in steps), 20)
        self.assertEqual(steps[-1]["num_evaluated"], 20)
        progress = [event.data["progress"] for event in stored]
        self.assertEqual(progress, sorted(progress))
        self.assertEqual(progress[-1], 100)
        phases = [event.data["phase"] for event in stored if event.name == "phase"]
        self.assertIn("decoding", phases)
        self.assertLess(phases.index("text"), phases.index("decoding"))
        # Replay, of all and of a part.
        def replay(**where):
            return [event for event in self.server.events(video["id"], **where) if event.id is not None]
        self.assertEqual(replay(after=0), stored)
        self.assertEqual(replay(after=ids[5]), stored[6:])
        self.assertEqual(replay(query=f"?last_event_id={ids[5]}"), stored[6:])
        self.assertEqual(replay(after=ids[-1]), [])

    def test_previews(self):
        video = self.server.create(**LONG)
        stream = self.server.events(video["id"])
        preview = stream.next("preview").data
        stream.close()
        width, height = jpeg_size(decode_data_url(preview["image"], "image/jpeg"))
        rows = -(-preview["num_frames"] // preview["columns"])
        self.assertEqual((width, height), (preview["columns"] * preview["width"], rows * preview["height"]))
        self.assertEqual(preview["num_frames"], 1 + (LONG["num_frames"] - 1) // 6)
        # Who comes later gets the latest at once.
        late = self.server.events(video["id"])
        self.assertGreaterEqual(late.next("preview").data["step"], preview["step"])
        late.close()
        self.assertEqual(self.server.delete(f"/v1/videos/{video['id']}").status, 200)

    def test_events_of_the_queue(self):
        blocker, first, second = (self.server.create(**LONG) for _ in range(3))
        self.server.wait_for(blocker["id"], "in_progress")
        stream = self.server.events(second["id"])
        self.assertEqual(stream.next("queue").data, {"queue_position": 1})
        self.assertEqual(self.server.video(first["id"])["queue_position"], 0)
        self.assertEqual(self.server.delete(f"/v1/videos/{first['id']}").status, 200)
        self.assertEqual(stream.next("queue").data, {"queue_position": 0})
        self.assertEqual(self.server.delete(f"/v1/videos/{second['id']}").status, 200)
        rest = list(stream)
        self.assertEqual((rest[-1].name, rest[-1].id, rest[-1].data), ("deleted", None, {}))
        running = self.server.events(blocker["id"])
        running.next("step")
        self.assertEqual(self.server.delete(f"/v1/videos/{blocker['id']}").status, 200)
        self.assertEqual(list(running)[-1].name, "deleted")

    def test_an_event_that_is_no_number(self):
        video = self.server.create()
        for query, headers in (("?last_event_id=x", {}), ("?last_event_id=-1", {}),
                               ("", {"Last-Event-ID": "x"})):
            answer = self.server.get(f"/v1/videos/{video['id']}/events{query}", headers)
            param = "last_event_id" if query else "Last-Event-ID"
            self.expect_refusal(answer, 400, INVALID, param=param)
        self.finish(video)

    # ---- delete ----

    def expect_gone(self, video_id):
        for path in ("", "/content", "/events"):
            self.assertEqual(self.server.get(f"/v1/videos/{video_id}{path}").status, 404)
        self.assertEqual(self.server.post(f"/v1/videos/{video_id}/remix", {"prompt": "x"}).status, 404)
        self.assertEqual(self.server.delete(f"/v1/videos/{video_id}").status, 404)
        folder = self.server.data / "videos" / video_id
        wait_until(lambda: not folder.exists(), f"{folder} to be removed")

    def test_delete_at_every_status(self):
        running = self.server.create(**LONG)
        self.server.wait_for(running["id"], "in_progress")
        queued = self.server.create(**LONG)
        self.assertEqual(queued["status"], "queued")
        for video in (queued, running):
            answer = self.server.delete(f"/v1/videos/{video['id']}")
            self.assertEqual(answer.status, 200)
            self.expect_schema(self.server, answer.json(), "DeletedVideo")
            self.assertEqual(answer.json()["id"], video["id"])
            self.expect_gone(video["id"])
        completed = self.make()
        self.assertEqual(self.server.delete(f"/v1/videos/{completed['id']}").status, 200)
        self.expect_gone(completed["id"])

    # ---- the server itself ----

    def test_models(self):
        listed = self.server.get("/v1/models").json()
        self.expect_schema(self.server, listed, "ModelList")
        (model,) = listed["data"]
        self.assertEqual(model["id"], self.server.model)
        self.assertEqual(self.server.get(f"/v1/models/{model['id']}").json(), model)
        self.assertEqual(self.server.get("/v1/models/other").status, 404)
        defaults = model["defaults"]
        self.assertEqual((defaults["width"], defaults["height"], defaults["num_frames"],
                          defaults["num_steps"], defaults["cfg_scale"], defaults["fps"]),
                         (WIDTH, HEIGHT, NUM_FRAMES, NUM_STEPS, 4.5, 24))
        self.assertEqual((model["sizes"], model["frames"]),
                         ({"multiple": 16}, {"multiple": 6, "plus": 1}))
        self.assertEqual(model["loras"], ["strong"])
        self.assertIn("attn", model["sparsity"])
        accepted = self.server.post("/v1/videos/estimate",
                                    {"prompt": "x", "model": model["id"], "sparsity": model["sparsity"]})
        self.assertEqual(accepted.status, 200, accepted.body)

    def test_status(self):
        before = self.server.get("/v1/status").json()
        self.expect_schema(self.server, before, "Status")
        self.assertEqual((before["model"], before["accepts"]), (self.server.model, True))
        video = self.server.create(**LONG)
        self.server.wait_for(video["id"], "in_progress")
        status = self.server.get("/v1/status").json()
        (worker,) = status["workers"]
        self.assertEqual((worker["gpu"], worker["state"], worker["video_id"]),
                         (None, "running", video["id"]))
        self.assertEqual(status["queue"]["running"], 1)
        self.server.delete(f"/v1/videos/{video['id']}")
        self.assertEqual(self.server.get("/v1/status").json()["queue"]["queued"], 0)

    def test_metrics(self):
        self.make()
        answer = self.server.get("/metrics")
        self.assertEqual((answer.status, answer.headers.get_content_type()), (200, "text/plain"))
        types, seen = {}, set()
        label = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
        sample = re.compile(rf"^([a-zA-Z_:][\w:]*)(\{{{label}(?:,{label})*\}})? (\S+)$")
        for line in answer.body.decode().splitlines():
            if line.startswith("# HELP "):
                continue
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, types)
                types[name] = kind
                continue
            found = sample.match(line)
            self.assertIsNotNone(found, line)
            name, labels, value = found.groups()
            float(value)
            self.assertNotIn((name, labels), seen)
            seen.add((name, labels))
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            self.assertTrue(name in types or types.get(family) == "histogram", line)
            self.assertTrue(name.startswith(("mochi_", "process_")), line)
        self.assertTrue(answer.body.endswith(b"\n"))

    def test_health(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.server.get(path).status, 200)

    def test_page_and_description(self):
        page = self.server.get("/")
        self.assertEqual((page.status, page.headers.get_content_type()), (200, "text/html"))
        for path in re.findall(r'(?:src|href)="([^"#]+)"', page.body.decode()):
            if not path.startswith(("http", "data:")):
                self.assertEqual(self.server.get("/" + path.removeprefix("/")).status, 200, path)
        description = self.server.get("/openapi.json")
        self.assertEqual(description.headers.get_content_type(), "application/json")
        self.assertEqual(description.json()["openapi"][:3], "3.1")

    def test_requests_on_one_connection(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port)
        for path, status in (("/healthz", 200), ("/nothing", 404), ("/v1/status", 200)) * 3:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status)
        connection.close()


class ListTest(ServeTest):
    """Lists of all videos; each test has its own server."""

    def test_pages(self):
        server = self.serve()
        self.expect_schema(server, server.get("/v1/videos").json(), "VideoList")
        self.assertEqual(server.get("/v1/videos").json(),
                         {"object": "list", "data": [], "first_id": None, "last_id": None,
                          "has_more": False})
        ids = [server.create(**LONG)["id"] for _ in range(7)]
        for order, wanted in (("asc", ids), ("desc", ids[::-1])):
            with self.subTest(order):
                found, after = [], ""
                while True:
                    page = server.get(f"/v1/videos?order={order}&limit=3{after}").json()
                    self.expect_schema(server, page, "VideoList")
                    part = [video["id"] for video in page["data"]]
                    self.assertEqual((page["first_id"], page["last_id"]), (part[0], part[-1]))
                    found += part
                    self.assertEqual(page["has_more"], len(found) < len(ids))
                    if not page["has_more"]:
                        break
                    after = f"&after={page['last_id']}"
                self.assertEqual(found, wanted)
        self.assertEqual([v["id"] for v in server.get("/v1/videos").json()["data"]], ids[::-1])
        self.assertFalse(server.get("/v1/videos?limit=7").json()["has_more"])
        self.assertEqual(server.get(f"/v1/videos?after={ids[0]}").json()["data"], [])
        for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"),
                             ("order=up", "order"), ("after=video_x", "after"), ("page=2", "page")):
            with self.subTest(query):
                self.expect_refusal(server.get(f"/v1/videos?{query}"), 400, INVALID, param=param)
        # The queue is worked off in the order of creation.
        positions = {v["id"]: v["queue_position"] for v in server.all_videos()}
        self.assertEqual([positions[each] for each in ids[-6:]], list(range(6)))

    def test_the_oldest_videos_are_deleted_when_all_are_too_large(self):
        server = self.serve()
        ids = []
        for seed in range(3):
            ids.append(server.create(seed=seed)["id"])
            server.wait_for(ids[-1])
        sizes = [sum(file.stat().st_size for file in (server.data / "videos" / each).iterdir())
                 for each in ids]
        self.assertEqual(server.terminate(), 0)
        server = self.serve("--keep", f"{sizes[1] + sizes[2] + sizes[0] // 2}B")
        wait_until(lambda: server.get(f"/v1/videos/{ids[0]}").status == 404, "the oldest to be deleted")
        self.assertEqual([v["id"] for v in server.all_videos()], [ids[2], ids[1]])
        self.assertFalse((server.data / "videos" / ids[0]).exists())

    def test_the_age_at_which_videos_are_deleted(self):
        server = self.serve("--keep", "30d")
        video = server.create()
        self.assertEqual(video["expires_at"], None)
        done = server.wait_for(video["id"])
        self.assertEqual(done["expires_at"], done["completed_at"] + 30 * 24 * 3600)

    def test_a_video_that_fails(self):
        broken = self.folder / "broken"
        shutil.copytree(self.model, broken)
        server = self.serve(model=broken)
        (broken / "decoder.safetensors").unlink()
        video = server.create()
        stream = server.events(video["id"], after=0)
        done = server.wait_for(video["id"])
        self.expect_schema(server, done, "Video")
        self.assertEqual((done["status"], done["error"]["code"]), ("failed", "model_error"))
        self.assertTrue(done["error"]["message"].isprintable())
        last = list(stream)[-1]
        self.assertEqual((last.name, last.data["status"], last.data["error"]),
                         ("state", "failed", done["error"]))
        self.expect_refusal(server.content(video["id"]), 404, INVALID, code="video_not_ready")
        answer = server.post("/v1/videos/sync", {"prompt": "x"})
        self.expect_refusal(answer, 500, "server_error", code="model_error")
        self.assertEqual(server.delete(f"/v1/videos/{video['id']}").status, 200)
        self.assertEqual(server.get(f"/v1/videos/{video['id']}").status, 404)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
