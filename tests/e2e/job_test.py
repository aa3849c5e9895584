"""Nothing is lost: jobs that fail or are interrupted, and the commands that continue them.

Usage: job_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

from support import MOCHI, PROMPT, TIMEOUT_S, ProgramTest, read_y4m


class JobTest(ProgramTest):
    def wait_for(self, child, text):
        for line in child.stderr:
            if text in line:
                return
        self.fail(f"'{text}' was not told")

    def end(self, child):
        _, rest = child.communicate(timeout=TIMEOUT_S)
        return rest

    def paste(self, told):
        """Runs the command that the last line with one gives, through a shell."""
        command = re.findall(r"to (?:continue|try them again): (.*)", told)[-1]
        return subprocess.run(command, shell=True, cwd=self.folder, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False)

    # ---- one video ----

    def test_the_command_of_an_error_line_makes_the_same_video(self):
        self.generate_ok("--num-steps", 300, "--fps", "24000/1001", "--out", "whole.y4m")
        (self.folder / "my videos").mkdir()
        child = self.start("--prompt", PROMPT, "--num-steps", 300, "--fps", "24000/1001", "--out",
                           "my videos/it's.y4m")
        self.wait_for(child, "sampling")
        shutil.rmtree(self.folder / "my videos")
        told = self.end(child)
        self.assertEqual(child.returncode, 1, told)
        self.assertIn("the sampled latents are saved", told)
        (self.folder / "my videos").mkdir()
        done = self.paste(told)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("my videos/it's.y4m"), self.content("whole.y4m"))
        self.assertEqual(read_y4m(self.folder / "whole.y4m")[0][3], b"F24000:1001")

    def test_interrupted_while_decoding_keeps_the_latents(self):
        args = ["--prompt", PROMPT, "--width", 256, "--height", 256, "--num-frames", 31,
                "--num-steps", 1]
        child = self.start(*args, "--out", "v.y4m")
        self.wait_for(child, "decoding")
        child.send_signal(signal.SIGTERM)
        told = self.end(child)
        self.assertEqual(child.returncode, 128 + signal.SIGTERM, told)
        self.assertEqual(self.entries(), ["v.y4m.latents.safetensors"])
        self.assertIn("mochi decode v.y4m.latents.safetensors --model-dir ", told)
        self.assertIn("--out v.y4m --fps ", told)

    def test_a_resumed_video_is_next_to_its_checkpoint(self):
        (self.folder / "a").mkdir()
        checkpoint = self.folder / "a/v.y4m.checkpoint.safetensors"
        child = subprocess.Popen(
            [MOCHI, "generate", "--model-dir", self.model, "--prompt", PROMPT, "--num-steps", "200",
             "--checkpoint-every", "2", "--out", "v.y4m", "--save-latents", "l.safetensors",
             "--quiet"], cwd=self.folder / "a")
        begin = time.monotonic()
        while not checkpoint.exists():
            self.assertLess(time.monotonic() - begin, TIMEOUT_S)
            time.sleep(0.005)
        child.kill()
        child.wait(timeout=TIMEOUT_S)
        for path in (self.folder / "a").glob("*.part-*"):
            path.unlink()
        shutil.move(self.folder / "a", self.folder / "moved")
        (self.folder / "a").mkdir()  # where the recipe has its latents
        done = self.run_mochi("generate", "--resume", "moved/v.y4m.checkpoint.safetensors", "--quiet")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.entries(), ["a", "a/l.safetensors", "moved", "moved/v.y4m",
                                          "moved/v.y4m.json"])

    def test_runs_at_once_take_different_names(self):
        scales = ["1", "5", "7"]
        children = [self.start("--prompt", "a red ball", "--quiet", "--cfg-scale", scale)
                    for scale in scales]
        for child in children:
            self.assertEqual(self.end(child), "")
        sidecars = [json.loads(path.read_text()) for path in (self.folder / "videos").glob("*.json")]
        self.assertEqual(sorted(str(each["request"]["cfg_scale"]) for each in sidecars),
                         ["1.0", "5.0", "7.0"])
        self.assertEqual(len(list((self.folder / "videos").glob("*.mp4"))), 3)
        self.assertEqual(len(self.entries()), 7)

    def test_names_that_are_not_utf8_are_refused_before_the_work(self):
        name = os.fsencode(self.folder) + b"/caf\xe9.y4m"
        done = subprocess.run(
            [MOCHI, "generate", "--model-dir", self.model, "--prompt", "x", "--checkpoint-every", "1",
             "--out", name], cwd=self.folder, capture_output=True, text=True, check=False)
        self.expect_error(done, 1, "caf\\xe9.y4m': wanted a name in UTF-8")
        self.assertEqual(self.entries(), [])

    # ---- latents that know where they come from ----

    def test_decode_takes_model_and_rate_from_the_latents(self):
        self.generate_ok("--fps", 9, "--save-latents", "l.safetensors", "--out", "a.y4m")
        done = self.run_mochi("decode", "l.safetensors", "--out", "b.y4m", "--quiet")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))
        done = self.run_mochi("decode", "l.safetensors", "--out", "c.y4m", "--quiet", "--fps", 5)
        self.assertEqual(read_y4m(self.folder / "c.y4m")[0][3], b"F5:1")

        other = self.folder / "other"
        shutil.copytree(self.model, other)
        decoder = other / "decoder.safetensors"
        decoder.write_bytes(decoder.read_bytes()[:-1] + b"\1")
        self.expect_error(
            self.run_mochi("decode", "l.safetensors", "--model-dir", other, "--out", "d.y4m"), 1,
            "'l.safetensors': the latents belong to another model")

    def test_values_of_a_json_are_blamed_on_the_file(self):
        self.generate_ok("--out", "a.y4m")
        good = json.loads(self.content("a.y4m.json"))
        for section, key, value, message in (
            ("request", "num_steps", -1, "bad.json: request.num_steps: wanted 1 to 10000, found -1"),
            ("request", "num_frames", 12, "bad.json: request.num_frames: wanted 6·k + 1, found 12"),
            ("engine", "dtype", "int3", "bad.json: engine.dtype: wanted auto, fp32, bf16"),
            ("engine", "device", "tpu", "bad.json: engine.device: wanted auto, cpu, cuda"),
        ):
            bad = json.loads(json.dumps(good))
            bad[section][key] = value
            (self.folder / "bad.json").write_text(json.dumps(bad))
            done = self.run_mochi("generate", "--from-json", "bad.json", "--out", "b.y4m")
            self.expect_error(done, 1, message)
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m",
                              "--num-frames", 12)
        self.expect_error(done, 2, "--num-frames: wanted 6·k + 1, found 12")

    def test_fields_without_effect_get_a_warning(self):
        self.generate_ok("--save-latents", "n.safetensors", "--out", "n.y4m")
        done = self.generate_ok("--cfg-scale", 3, "--cfg-schedule", "2,1", "--seed", 3, "--noise",
                                "n.safetensors", "--out", "a.y4m")
        self.assertIn("warning: --cfg-scale has no effect with --cfg-schedule", done.stderr)
        self.assertIn("warning: --seed has no effect with --noise", done.stderr)

    # ---- what a run waits for ----

    def interrupt(self, *args, path=None):
        """Runs the program with programs of ours in front of PATH; ends it when it waits."""
        env = os.environ | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})
        before = self.entries()
        child = subprocess.Popen([MOCHI, *map(str, args)], cwd=self.folder, env=env, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with self.assertRaises(subprocess.TimeoutExpired):
            child.communicate(timeout=1)
        child.send_signal(signal.SIGTERM)
        try:
            _, told = child.communicate(timeout=10)
        finally:
            child.kill()
        self.assertEqual(child.returncode, 128 + signal.SIGTERM, told)
        self.assertIn("mochi: interrupted", told)
        self.assertEqual(self.entries(), before)

    def test_the_first_signal_ends_the_wait_for_a_pipe(self):
        os.mkfifo(self.folder / "fifo")
        generate = ["generate", "--model-dir", self.model, "--prompt", "x", "--out", "a.y4m"]
        for args in ([*generate, "--chipmunk-config", "fifo"],
                     ["generate", "--from-json", "fifo"],
                     ["generate", "--sweep-file", "fifo"],
                     ["tune", "--model-dir", self.model, "--min-psnr", 30, "--prompts", "fifo",
                      "--out", "t"]):
            with self.subTest(args):
                self.interrupt(*args)

    def test_the_first_signal_ends_the_wait_for_another_program(self):
        self.generate_ok("--out", "a.mp4")
        for program, args in {
            "ffmpeg": ["generate", "--prompt", "x", "--out", "b.mp4"],
            "ffprobe": ["encode", "a.mp4", "--out", "l.safetensors"],
        }.items():
            with self.subTest(program):
                fake = self.folder / f"fake-{program}" / program
                fake.parent.mkdir()
                fake.write_text("#!/bin/sh\nexec sleep 1000\n")
                fake.chmod(0o755)
                self.interrupt(*args, "--model-dir", self.model, path=fake.parent)

    def test_texts_may_come_from_pipes(self):
        self.generate_ok("--out", "a.y4m")
        sparse = ["generate", "--model-dir", self.model, "--prompt", PROMPT, "--out", "b.y4m"]
        for args, text in {
            ("generate", "--from-json", "/dev/stdin", "--out", "c.y4m"):
                self.content("a.y4m.json").decode(),
            tuple(map(str, [*sparse, "--chipmunk-config", "/dev/stdin"])): "attn: {top_keys: 0.5}",
        }.items():
            with self.subTest(args):
                done = subprocess.run([MOCHI, *args], cwd=self.folder, input=text, text=True,
                                      capture_output=True, timeout=TIMEOUT_S, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("c.y4m"))
        self.assertEqual(
            json.loads(self.content("b.y4m.json"))["request"]["sparsity"]["attn"]["top_keys"], 0.5)

    def test_endless_texts_are_refused(self):
        generate = ["generate", "--model-dir", self.model, "--prompt", "x", "--out", "a.y4m"]
        for args in ([*generate, "--chipmunk-config", "/dev/zero"],
                     ["generate", "--from-json", "/dev/zero"],
                     ["generate", "--sweep-file", "/dev/zero"],
                     ["tune", "--model-dir", self.model, "--min-psnr", 30, "--prompts", "/dev/zero",
                      "--out", "t"]):
            with self.subTest(args):
                line = re.compile(
                    r"cannot read '/dev/zero': wanted a text file of at most \d+ bytes, found more")
                self.refuse(1, line, *args)

    # ---- many videos ----

    def test_what_videos_have_in_common_is_told_once(self):
        (self.folder / "c.yml").write_text("tea_cache: 50\nattn: {provider: x}\n")
        lines = [{"seed": seed, "out": f"{seed}.y4m"} for seed in range(3)]
        (self.folder / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
        args = ["--sweep-file", "s.jsonl", "--chipmunk-config", "c.yml", "--cfg-scale", 3,
                "--cfg-schedule", "2,1"]
        done = self.generate_ok(*args, "--verbose")
        warning = "warning: --cfg-scale has no effect with --cfg-schedule\n"
        keys = "c.yml: keys without effect here: attn.provider, tea_cache\n"
        self.assertEqual((done.stderr.count(warning), done.stderr.count(keys)), (1, 1))
        for line in {text for text in done.stderr.splitlines() if text.startswith("warning: ")}:
            self.assertEqual(done.stderr.count(line), 1)
        self.assertNotIn("keys without effect", self.generate_ok(*args).stderr)

    def test_a_sweep_survives_a_failed_video_and_can_be_resumed(self):
        lines = [{"seed": 1, "num_steps": 300, "out": "1.y4m"}, {"seed": 2, "out": "late/2.y4m"},
                 {"seed": 3, "out": "3.y4m"}]
        (self.folder / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (self.folder / "late").mkdir()
        child = self.start("--prompt", PROMPT, "--num-steps", 2, "--sweep-file", "s.jsonl")
        self.wait_for(child, "sampling")
        (self.folder / "late").rmdir()
        told = self.end(child)
        self.assertEqual(child.returncode, 1, told)
        self.assertIn("mochi: s.jsonl:2: cannot write 'late/2.y4m'", told)
        self.assertIn("mochi: 1 of 3 videos failed: s.jsonl:2; to try them again: ", told)
        self.assertTrue((self.folder / "1.y4m").exists() and (self.folder / "3.y4m").exists())
        before = (self.folder / "1.y4m").stat().st_mtime_ns
        (self.folder / "late").mkdir()
        done = self.paste(told)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("already made"), 2)
        self.assertEqual((self.folder / "1.y4m").stat().st_mtime_ns, before)
        self.generate_ok("--seed", 2, "--num-steps", 2, "--out", "two.y4m")
        self.assertEqual(self.content("late/2.y4m"), self.content("two.y4m"))

    def test_an_interrupted_sweep_continues_in_the_middle_of_a_video(self):
        lines = [{"seed": 1}, {"seed": 2, "num_steps": 300}]
        (self.folder / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
        child = self.start("--prompt", "a star", "--num-steps", 2, "--sweep-file", "s.jsonl",
                           "--checkpoint-every", 5)
        begin = time.monotonic()
        while not (self.folder / "videos/a-star-2.mp4.checkpoint.safetensors").exists():
            self.assertLess(time.monotonic() - begin, TIMEOUT_S)
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        told = self.end(child)
        self.assertEqual(child.returncode, 130, told)
        done = self.paste(told)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("video 1 of 2: already made", done.stderr)
        self.assertIn("done before", done.stderr)
        self.generate_ok("--seed", 2, "--num-steps", 300, "--out", "whole.mp4", prompt="a star")
        self.assertEqual(self.content("videos/a-star-2.mp4"), self.content("whole.mp4"))

    def test_lines_that_write_the_same_file(self):
        for out in ("x.y4m", "./x.y4m", "a/../x.y4m"):
            (self.folder / "a").mkdir(exist_ok=True)
            (self.folder / "s.jsonl").write_text(f'{{"out": "x.y4m"}}\n{{"out": "{out}"}}')
            done = self.generate("--sweep-file", "s.jsonl")
            self.expect_error(done, 1, f"s.jsonl:2: out: '{out}' is also written for s.jsonl:1")

    # ---- outputs and inputs ----

    def test_no_output_is_an_input(self):
        self.generate_ok("--save-latents", "n.safetensors", "--out", "a.y4m")
        for flag in ("--noise", "--lora-path"):
            done = self.generate(flag, "n.safetensors", "--out", "b.y4m", "--save-latents",
                                 "./n.safetensors")
            self.assertNotEqual(done.returncode, 0)
        done = self.generate("--noise", "n.safetensors", "--out", "b.y4m", "--save-latents",
                             "./n.safetensors")
        self.expect_error(done, 2, "--save-latents: './n.safetensors' is the start noise")
        (self.folder / "b.y4m.json").write_text("{}")
        self.expect_error(self.generate("--out", "b.y4m"), 1, "'b.y4m.json' exists and is not")
        self.assertEqual(self.content("b.y4m.json"), b"{}")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
