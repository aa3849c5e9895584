"""Many videos, videos made again, videos gone on with, and what else a user does with the program.

Usage: run_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import shutil
import signal
import subprocess
import time
import unittest
from pathlib import Path

from support import MOCHI, PROMPT, TIMEOUT_S, ProgramTest, read_latents, read_y4m, write_lora

DOCS = Path(__file__).resolve().parents[2] / "docs"


class RunTest(ProgramTest):
    # ---- many ----

    def test_a_sweep_makes_what_single_runs_make(self):
        lines = [
            {"prompt": "a red ball", "seed": 1, "out": "one.y4m"},
            {"seed": 2, "num_steps": 2, "cfg_schedule": [3, 1], "fps": 7, "out": "two.y4m"},
            {"prompt": "a blue cube", "width": 48, "num_frames": 7},
            {"prompt": "a blue cube", "width": 48, "num_frames": 7},
        ]
        text = "\n\n".join(json.dumps(line) for line in lines)
        (self.folder / "sweep.jsonl").write_text(text)
        done = self.generate_ok("--sweep_file", "sweep.jsonl", "--out_dir", "made", "--json")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        outputs = [each["video"]["file"] for each in told]
        cubes = ["made/a-blue-cube-0.mp4", "made/a-blue-cube-0-2.mp4"]
        self.assertEqual(outputs, ["one.y4m", "two.y4m", *cubes])
        self.assertEqual(done.stderr.count("loading the transformer ..."), 1)
        self.assertIn("video 2 of 4: " + PROMPT, done.stderr)
        self.assertEqual(told[0], json.loads(self.content("one.y4m.json")))
        self.generate_ok("--seed", 1, "--out", "1.y4m", prompt="a red ball")
        self.generate_ok("--seed", 2, "--cfg-schedule", "3,1", "--fps", 7, "--out", "2.y4m")
        self.assertEqual(self.content("one.y4m"), self.content("1.y4m"))
        self.assertEqual(self.content("two.y4m"), self.content("2.y4m"))
        self.assertEqual(told[2]["video"]["width"], 48)

    def test_sweep_lines_are_checked_before_the_first_video(self):
        good = '{"prompt": "x", "out": "a.y4m"}'
        cases = {
            '{"promt": "x"}': "sweep.jsonl:2: promt: unknown key, did you mean 'prompt'?",
            '{"num_frames": 12}': "sweep.jsonl:2: num_frames: wanted 6·k + 1, found 12",
            '{"seed": -1}': "sweep.jsonl:2: seed: wanted an integer, 0 or more, found -1",
            '{"fps": 0}': "sweep.jsonl:2: fps: wanted a number or a fraction from 1/1000 to 1000",
            "{": "sweep.jsonl:2: column 2: not valid JSON",
            '{"out": "a.y4m"}': "sweep.jsonl:2: out: 'a.y4m' is also written for",
        }
        for line, message in cases.items():
            with self.subTest(line):
                (self.folder / "sweep.jsonl").write_text(f"{good}\n{line}\n")
                self.expect_error(self.generate("--sweep-file", "sweep.jsonl"), 1, message)
                self.assertEqual([e for e in self.entries() if e != "videos"], ["sweep.jsonl"])
        (self.folder / "sweep.jsonl").write_text("\n")
        self.expect_error(self.generate("--sweep-file", "sweep.jsonl"), 1, "found none")
        for flag in ("--out", "--save-latents"):
            done = self.generate("--sweep-file", "sweep.jsonl", flag, "a.y4m")
            self.expect_error(done, 2, f"{flag} has no effect with --sweep-file")

    # ---- again ----

    def test_a_video_is_made_again_from_its_json(self):
        seed = 2**64 - 1
        args = ["--seed", seed, "--cfg-scale", 2.5, "--num-steps", 3, "--linear-steps", 1]
        self.generate_ok(*args, "--fps", 9, "--out", "a.y4m", "--width", 48)
        again = ["generate", "--from-json", "a.y4m.json", "--out"]
        done = self.run_mochi(*again, "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))
        requests = [json.loads(self.content(f"{n}.y4m.json"))["request"] for n in "ab"]
        self.assertEqual(*requests)
        self.assertEqual(requests[0]["seed"], seed)
        self.run_mochi(*again, "c.y4m", "--seed", 1)
        self.assertNotEqual(self.content("a.y4m"), self.content("c.y4m"))
        self.generate_ok("--out", "d.y4m", "--save-latents", "l.safetensors")
        self.generate_ok("--from-latents", "l.safetensors", "--out", "e.y4m", prompt=None)
        self.assertEqual(self.run_mochi("generate", "--from-json", "e.y4m.json", "--out", "f.y4m",
                                        "--quiet").returncode, 0)
        self.assertEqual(self.content("e.y4m"), self.content("f.y4m"))

    def test_a_json_that_no_longer_fits(self):
        model = self.folder / "model"
        shutil.copytree(self.model, model)
        done = self.run_mochi("generate", "--model-dir", model, "--prompt", "x", "--out", "a.y4m",
                              "--num-steps", 1, "--save-latents", "l.safetensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        again = ["generate", "--from-json", "a.y4m.json", "--out", "b.y4m"]
        dit = model / "dit.safetensors"
        dit.write_bytes(dit.read_bytes()[:-1] + b"\1")
        done = self.run_mochi(*again)
        self.expect_error(done, 1, "the model file 'dit.safetensors' has changed since")
        recipe = json.loads(self.content("a.y4m.json"))
        for change, message in [
            ({"model": {}}, "model.dir: key is missing"),
            ({"video": {"file": "a", "fps": "many"}}, "video.fps: wanted a number or a fraction"),
            ({"request": {"promt": "x"}}, "request.promt: unknown key"),
        ]:
            (self.folder / "bad.json").write_text(json.dumps(recipe | change))
            done = self.run_mochi("generate", "--from-json", "bad.json", "--out", "b.y4m")
            self.expect_error(done, 1, "bad.json", message)
        self.assertFalse((self.folder / "b.y4m").exists())

    # ---- gone on with ----

    def test_killed_and_resumed_is_the_same_video(self):
        args = ["--num-steps", 120, "--seed", 4, "--out", "a.y4m"]
        checkpoint = self.folder / "a.y4m.checkpoint.safetensors"
        self.kill_at_checkpoint(checkpoint, *args, "--checkpoint-every", 7)
        self.assertFalse((self.folder / "a.y4m").exists())
        header, _ = read_latents(checkpoint)
        self.assertEqual(header["shape"], [1, 12, 3, 6, 8])

        done = self.generate("--num-steps", 119, "--seed", 4, "--out", "a.y4m", "--resume")
        self.expect_error(done, 1, "the checkpoint's video has num_steps 120, wanted is 119")
        other = self.folder / "other"
        shutil.copytree(self.model, other)
        dit = other / "dit.safetensors"
        dit.write_bytes(dit.read_bytes()[:-1] + b"\1")
        done = self.run_mochi("generate", "--model-dir", other, "--resume", checkpoint)
        self.expect_error(done, 1, "the model file 'dit.safetensors' has changed since")
        write_lora(self.folder / "l.safetensors")
        done = self.run_mochi("generate", "--resume", checkpoint, "--lora-path", "l.safetensors")
        self.expect_error(done, 1, "the checkpoint's video has loras []")
        done = self.generate_ok(*args, "--resume")
        self.assertIn("done before", done.stderr)
        self.assertFalse(checkpoint.exists())
        resumed = self.content("a.y4m")
        self.generate_ok("--num-steps", 120, "--seed", 4, "--out", "b.y4m")
        self.assertEqual(resumed, self.content("b.y4m"))
        self.expect_error(self.generate(*args, "--resume"), 1, "a.y4m.checkpoint.safetensors")

    def test_interrupted_leaves_a_checkpoint_that_knows_everything(self):
        args = ["--prompt", "a star", "--num-steps", "4000", "--checkpoint-every", "3999"]
        child = self.start(*args)
        for line in child.stderr:
            if line.startswith("sampling"):
                break
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        _, rest = child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, 130)
        checkpoint = "videos/a-star-0.mp4.checkpoint.safetensors"
        self.assertIn(f"to continue: {MOCHI} generate --resume {checkpoint}", rest)
        self.assertEqual(self.entries(), ["videos", checkpoint])
        child = self.start("--resume", checkpoint)
        for line in child.stderr:
            if "done before" in line:
                break
        child.kill()
        child.communicate(timeout=TIMEOUT_S)
        for args in (["--resume"], ["--resume", "--prompt", "a star", "--seed", 1]):
            done = self.run_mochi("generate", "--model-dir", self.model, *args)
            self.assertEqual(done.returncode, 1 if len(args) > 1 else 2, done.stderr)
            self.assertIn("--resume: ", done.stderr)

    def test_hints_can_be_pasted_whatever_the_name(self):
        for name in ("-a.y4m", "--fps.y4m", "two\nlines.y4m", "it's \\ \x1b[31m.y4m"):
            with self.subTest(name):
                checkpoint = self.folder / f"{name}.checkpoint.safetensors"
                child = self.start("--prompt", PROMPT, "--num-steps", "3000", "--checkpoint-every",
                                   "1", f"--out={name}")
                while not checkpoint.exists() and child.poll() is None:
                    time.sleep(0.005)
                child.send_signal(signal.SIGINT)
                _, said = child.communicate(timeout=TIMEOUT_S)
                hint = said.partition("to continue: ")[2].partition("\n")[0]
                self.assertTrue(hint.isprintable(), said)
                resumed = subprocess.Popen(["bash", "-c", f"exec {hint}"], cwd=self.folder,
                                           stderr=subprocess.PIPE, text=True)
                self.assertTrue(any("done before" in line for line in resumed.stderr), hint)
                resumed.kill()
                resumed.communicate(timeout=TIMEOUT_S)
                checkpoint.unlink()

    # ---- both ways ----

    def test_encode_and_decode(self):
        self.generate_ok("--out", "a.y4m")
        done = self.run_mochi("encode", "a.y4m", "--out", "l.safetensors", "--model-dir", self.model)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("l.safetensors ([1, 12, 3, 6, 8])", done.stdout)
        self.assertEqual(read_latents(self.folder / "l.safetensors")[0]["shape"], [1, 12, 3, 6, 8])
        done = self.run_mochi("decode", "l.safetensors", "--out", "b.y4m", "--fps", 5,
                              "--model-dir", self.model, "--quiet")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        header, num_frames = read_y4m(self.folder / "b.y4m")
        self.assertEqual((header[3], num_frames), (b"F5:1", 13))
        self.generate_ok("--from-latents", "l.safetensors", "--out", "c.y4m", "--fps", 5, prompt=None)
        self.assertEqual(self.content("b.y4m"), self.content("c.y4m"))

    def test_videos_that_cannot_be_encoded(self):
        (self.folder / "odd.y4m").write_bytes(
            b"YUV4MPEG2 W20 H16 F24:1 C444\n" + b"FRAME\n" + bytes(3 * 20 * 16))
        (self.folder / "long.y4m").write_bytes(
            b"YUV4MPEG2 W16 H16 F24:1 C444\n" + 2 * (b"FRAME\n" + bytes(3 * 16 * 16)))
        for name, message in {
            "odd.y4m": "'odd.y4m': width: wanted a multiple of 16, found 20",
            "long.y4m": "'long.y4m': num_frames: wanted 6·k + 1, found 2",
            "none.y4m": "none.y4m",
        }.items():
            done = self.run_mochi("encode", name, "--out", "l.safetensors", "--model-dir", self.model)
            self.expect_error(done, 1, message)
        self.assertFalse((self.folder / "l.safetensors").exists())

    # ---- the command line itself ----

    def test_a_command_line_of_the_reference(self):
        args = f"""--model_dir {self.model} --width 64 --height 48 --num_frames 7
                   --seed 1710977262 --cfg_scale 4.5 --num_steps 2 --cpu_offload --out_dir outputs
                   --threshold_noise=0.025 --linear_steps 1""".split()
        done = self.run_mochi("generate", *args, "--negative_prompt", "")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no --prompt given, showing: a paper boat", done.stderr)
        (video,) = (self.folder / "outputs").glob("*.mp4")
        sidecar = json.loads(Path(f"{video}.json").read_text())
        self.assertEqual(sidecar["request"]["seed"], 1710977262)

    def test_json_is_the_only_thing_on_stdout(self):
        done = self.generate_ok("--out", "a.y4m", "--json", "--quiet")
        self.assertEqual(done.stderr, "")
        self.assertEqual(json.loads(done.stdout), json.loads(self.content("a.y4m.json")))

    def test_manual(self):
        markdown = self.run_mochi("manual", "--format", "markdown").stdout
        self.assertEqual(markdown, (DOCS / "command-line.md").read_text())
        page = self.run_mochi("manual").stdout
        groff = shutil.which("groff")
        if groff is None:
            self.skipTest("groff is not installed")
        done = subprocess.run([groff, "-man", "-ww", "-Tutf8", "-P-cbou"], input=page, capture_output=True,
                              text=True, check=True)
        self.assertEqual(done.stderr, "")
        self.assertIn("--checkpoint-every INT", done.stdout)

    def complete(self, *words):
        script = self.run_mochi("completion", "bash").stdout
        line = " ".join(f"'{word}'" for word in ["mochi", *words])
        script += f"""
COMP_WORDS=({line}); COMP_CWORD={len(words)}; _mochi; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, capture_output=True,
                              text=True, check=True)
        return done.stdout.split()

    def test_bash_completion(self):
        (self.folder / "clip.json").touch()
        self.assertEqual(self.complete("gen"), ["generate"])
        self.assertEqual(self.complete("generate", "--num"), ["--num-frames", "--num-steps"])
        self.assertEqual(self.complete("generate", "--dtype", ""), ["auto", "fp32", "bf16"])
        self.assertEqual(self.complete("generate", "--from-json", "cl"), ["clip.json"])
        self.assertEqual(self.complete("generate", "--seed", ""), ["random"])
        self.assertEqual(self.complete("generate", "--width", ""), [])
        self.assertEqual(self.complete("inspect", "cl"), ["clip.json"])
        self.assertEqual(self.complete("completion", ""), ["bash", "zsh"])

    def test_zsh_completion(self):
        script = self.run_mochi("completion", "zsh").stdout
        self.assertTrue(script.startswith("#compdef mochi\n"))
        self.assertIn("'--dtype[type of the weights in memory]:auto|fp32|bf16:(auto fp32 bf16)'", script)
        zsh = shutil.which("zsh")
        if zsh is None:
            self.skipTest("zsh is not installed")
        done = subprocess.run([zsh, "-n"], input=script, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main(argv=[__file__])
