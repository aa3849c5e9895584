"""The program as users run it: its files, its messages, and what remains on disk.

Usage: cli_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
import unittest

from support import (
    MOCHI,
    NUM_FRAMES,
    PROMPT,
    TIMEOUT_S,
    ProgramTest,
    read_latents,
    read_y4m,
    write_latents,
    write_lora,
)


def read_terminal(leader):
    """All that is written to the terminal until its last user has gone."""
    said = b""
    while True:
        try:
            block = os.read(leader, 4096)
        except OSError:
            block = b""
        if not block:
            os.close(leader)
            return said.decode()
        said += block


class CliTest(ProgramTest):
    # ---- what it writes ----

    def test_y4m_and_its_sidecar(self):
        done = self.generate_ok("--out", "a.y4m", "--seed", 5, "--fps", 12)
        self.assertEqual(self.entries(), ["a.y4m", "a.y4m.json"])
        header, num_frames = read_y4m(self.folder / "a.y4m")
        self.assertEqual(header[:4], [b"YUV4MPEG2", b"W64", b"H48", b"F12:1"])
        self.assertEqual(num_frames, NUM_FRAMES)
        self.assertIn("a.y4m (64x48, 13 frames, 12 fps)", done.stdout)
        self.assertIn("peak memory", done.stdout)
        for word in ("loading the transformer", "sampling: 4 steps", "decoding: 13 frames"):
            self.assertIn(word, done.stderr)
        self.assertNotIn("\r", done.stderr)

        sidecar = json.loads((self.folder / "a.y4m.json").read_text())
        self.assertEqual(
            sidecar["video"],
            {"file": "a.y4m", "width": 64, "height": 48, "num_frames": 13, "fps": 12},
        )
        self.assertEqual(
            sidecar["request"],
            {
                "prompt": PROMPT,
                "negative_prompt": "",
                "width": 64,
                "height": 48,
                "num_frames": 13,
                "num_steps": 4,
                "cfg_scale": 4.5,
                "threshold_noise": 0.025,
                "linear_steps": 2,
                "seed": 5,
                "noise_source": "mochi",
            },
        )
        self.assertEqual(len(sidecar["model"]["files"]), 6)
        self.assertEqual(sidecar["model"]["dir"], str(self.model))
        self.assertGreater(sidecar["peak_memory_bytes"], 1 << 20)
        self.assertEqual(
            sorted(sidecar["seconds"]), ["decoding", "loading", "sampling", "text", "total"]
        )

    def test_same_seed_same_video_for_any_threads(self):
        for threads in (1, 2):
            out = f"{threads}.y4m"
            self.generate_ok("--out", out, "--threads", threads, "--dtype", "fp32", "--quiet")
        first, second = ((self.folder / f"{n}.y4m").read_bytes() for n in (1, 2))
        self.assertEqual(first, second)

    def test_quiet_prints_nothing(self):
        done = self.generate_ok("--out", "a.y4m", "--quiet")
        self.assertEqual((done.stdout, done.stderr), ("", ""))

    def test_mp4_through_ffmpeg(self):
        self.generate_ok("--out", "a.mp4")
        self.assertEqual(self.entries(), ["a.mp4", "a.mp4.json"])
        self.assertEqual((self.folder / "a.mp4").read_bytes()[4:8], b"ftyp")

    def test_png_folder(self):
        self.generate_ok("--out", "frames/")
        pngs = sorted((self.folder / "frames").iterdir())
        self.assertEqual(len(pngs), NUM_FRAMES)
        self.assertTrue((self.folder / "frames.json").exists())

    def test_default_name_never_overwrites(self):
        for _ in range(2):
            self.generate_ok("--seed", 3, "--num-steps", 1, prompt="A red Ball!")
        self.assertEqual(
            self.entries(),
            [
                "videos",
                "videos/a-red-ball-3-2.mp4",
                "videos/a-red-ball-3-2.mp4.json",
                "videos/a-red-ball-3.mp4",
                "videos/a-red-ball-3.mp4.json",
            ],
        )

    # ---- latents and noise ----

    def test_saved_latents_decode_to_the_same_video(self):
        self.generate_ok("--out", "a.y4m", "--save-latents", "a.safetensors")
        entry, _ = read_latents(self.folder / "a.safetensors")
        self.assertEqual((entry["dtype"], entry["shape"]), ("F32", [1, 12, 3, 6, 8]))
        self.generate_ok("--out", "b.y4m", "--from-latents", "a.safetensors", prompt=None)
        first, second = ((self.folder / f"{n}.y4m").read_bytes() for n in "ab")
        self.assertEqual(first, second)
        sidecar = json.loads((self.folder / "b.y4m.json").read_text())
        self.assertNotIn("request", sidecar)
        self.assertTrue(sidecar["latents"]["path"].endswith("a.safetensors"))

    def test_noise_from_a_file_decides_size_and_start(self):
        write_latents(self.folder / "n.safetensors", [1, 12, 2, 4, 6])
        self.generate_ok("--noise", "n.safetensors", "--out", "a.y4m", "--seed", 1)
        self.generate_ok("--noise", "n.safetensors", "--out", "b.y4m", "--seed", 2)
        header, num_frames = read_y4m(self.folder / "a.y4m")
        self.assertEqual((header[1:3], num_frames), ([b"W48", b"H32"], 7))
        first, second = ((self.folder / f"{n}.y4m").read_bytes() for n in "ab")
        self.assertEqual(first, second)
        done = self.generate("--noise", "n.safetensors", "--width", 64, "--out", "c.y4m")
        self.expect_error(done, 2, "--noise: wanted")
        # Noise of another shape with as many values.
        write_latents(self.folder / "wide.safetensors", [1, 12, 1, 6, 8])
        size = ("--width", 48, "--height", 64, "--num-frames", 1)
        done = self.generate("--noise", "wide.safetensors", *size, "--out", "c.y4m")
        self.expect_error(done, 2, "--noise: wanted noise for 1 frames of 48x64, found noise for 1 of "
                          "64x48")

    def test_bad_latent_files(self):
        cases = {
            "dtype": ([1, 12, 1, 2, 2], {"dtype": "F16"}, "wanted F32 [1, channels, T, H, W]"),
            "rank": ([12, 1, 2, 2], {}, "found F32 [12, 1, 2, 2]"),
            "batch": ([2, 12, 1, 2, 2], {}, "found F32 [2, 12, 1, 2, 2]"),
            "name": ([1, 12, 1, 2, 2], {"name": "samples"}, "wanted one tensor 'latents'"),
            "channels": ([1, 3, 1, 2, 2], {}, "channels.safetensors': wanted [12"),
            "nan": ([1, 12, 1, 1, 1], {"values": [float("nan")] * 12}, "not finite"),
        }
        for name, (sizes, options, message) in cases.items():
            with self.subTest(name):
                write_latents(self.folder / f"{name}.safetensors", sizes, **options)
                done = self.generate(
                    "--from-latents", f"{name}.safetensors", "--out", "a.y4m", prompt=None
                )
                self.expect_error(done, 1, message)
        self.assertFalse((self.folder / "a.y4m").exists())
        self.expect_error(self.generate("--noise", "none.safetensors"), 1, "none.safetensors")

    # ---- what it refuses ----

    def test_bad_flags(self):
        cases = [
            (["--num-frames", 42], "--num-frames: wanted 6·k + 1, found 42"),
            (["--width", 100], "--width: wanted a multiple of 16, found 100"),
            (["--height", -16], "--height: wanted a multiple of 16"),
            (["--num-steps", 0], "--num-steps: wanted 1 to"),
            (["--threshold-noise", 2], "--threshold-noise: wanted 0 to below 1"),
            (["--linear-steps", 9], "--linear-steps: wanted 0 (half of the steps) or more, less than"),
            (["--cfg-schedule", "1,2", "--num-steps", 4], "--cfg-schedule: wanted 4 values"),
            (["--noise-source", "dice"], "--noise-source: wanted"),
            (["--fps", 0], "--fps: wanted a number or a fraction from 1/1000 to 1000"),
            (["--dtype", "fp7"], "--dtype: wanted 'auto', 'fp32' or 'bf16', found 'fp7'"),
            (["--device", "cuda:x"],
             "--device: wanted 'auto', 'cpu' or 'cuda[:N]', found 'cuda:x'"),
            (["--threads", -1], "--threads: wanted"),
            (["--model-dir="], "--model-dir: is empty"),
            (["--width", ""], "--width: is empty"),
            (["--seed", "0x10"], "--seed: wanted a whole number or 'random', found '0x10'"),
            (["--num-steps", "1e1"], "--num-steps: wanted a whole number, found '1e1'"),
            (["--cfg-scale", "nan"], "--cfg-scale: wanted a number, found 'nan'"),
            (["--cfg-schedule", "1,,2"], "--cfg-schedule: wanted numbers separated by commas"),
            (["--output", "b.y4m"], "unknown flag '--output', did you mean '--out'?"),
            (["--steps", 5], "unknown flag '--steps', did you mean '--num-steps'?"),
            (["--seed", "many"], "--seed"),
            (["--seed=-1"], "--seed: wanted 0 or more, found -1"),
            (["--with", 64], "unknown flag '--with', did you mean '--width'?"),
            (["--from-latents", "x.safetensors"], "--prompt"),
            (["stray"], "unexpected argument 'stray'"),
        ]
        for args, message in cases:
            with self.subTest(args):
                self.expect_error(self.generate("--out", "a.y4m", *args), 2, message)
        self.expect_error(
            self.generate(prompt=b"\xff".decode(errors="surrogateescape")),
            2,
            "--prompt: not valid UTF-8",
        )
        self.expect_error(self.run_mochi("generat"), 2, "did you mean 'generate'?")
        # The misspelt flag is told, not the required one that is missing because of that.
        done = self.run_mochi("tune", "--psnr", 30)
        self.expect_error(done, 2, "unknown flag '--psnr', did you mean '--min-psnr'?")
        done = self.run_mochi("completion")
        self.expect_error(done, 2, "SHELL: is required: which shell: bash, zsh")
        self.expect_error(self.run_mochi(), 2, "mochi --help")
        self.assertEqual(self.entries(), [])

    def test_bad_machine_and_files(self):
        cases = [
            (["--out", "nowhere/a.y4m"], "nowhere"),
            (["--out", "a.avi"], ".mp4"),
            (["--out", "a.y4m", "--save-latents", "nowhere/l.safetensors"], "nowhere"),
        ]
        for args, message in cases:
            with self.subTest(args):
                self.expect_error(self.generate(*args), 1, message)
        done = self.run_mochi("generate", "--prompt", "x", "--model-dir", "none", "--out", "a.y4m")
        self.expect_error(done, 1, "model folder 'none' does not exist")
        self.assertEqual([e for e in self.entries() if e != "videos"], [])

    def test_missing_files_are_found_before_the_work(self):
        for name in ("dit.safetensors", "decoder.safetensors", "tokenizer", "text_encoder"):
            with self.subTest(name):
                model = self.folder / "model"
                shutil.copytree(self.model, model, ignore=shutil.ignore_patterns(name))
                args = ["--model-dir", model, "--prompt", PROMPT, "--out", "a.y4m"]
                done = self.run_mochi("generate", *args)
                self.expect_error(done, 1, "found: looked for", str(model))
                shutil.rmtree(model)
        self.assertEqual(self.entries(), [])

    def test_prompts_of_all_kinds(self):
        for name, prompt in {"empty": "", "emoji": "🔴 ball", "long": "word " * 10_000}.items():
            with self.subTest(name):
                self.generate_ok("--out", f"{name}.y4m", "--num-steps", 1, prompt=prompt)

    def test_interrupted_leaves_nothing(self):
        args = [MOCHI, "generate", "--model-dir", self.model, "--prompt", PROMPT]
        args += ["--num-steps", "5000", "--out", "a.mp4"]
        child = subprocess.Popen(
            list(map(str, args)), cwd=self.folder, stderr=subprocess.PIPE, text=True
        )
        for line in child.stderr:
            if line.startswith("sampling"):
                break
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, rest = child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, 130)
        self.assertIn("\nstopping after this step; press Ctrl-C again to quit at once\n", rest)
        self.assertTrue(rest.endswith("\nmochi: interrupted\n"), rest)
        self.assertEqual(self.entries(), [])

    def test_values_are_taken_literally(self):
        cases = {
            "underscores": (["--prompt", "--snake_case sign"], "prompt", "--snake_case sign"),
            "flag": (["--prompt", "--quiet"], "prompt", "--quiet"),
            "equals": (["--prompt=a=--b_c"], "prompt", "a=--b_c"),
            "empty": (["--prompt", "x", "--negative_prompt=", "--quiet"], "negative_prompt", ""),
            "padded": (["--prompt", "x", "--seed", "010"], "seed", 10),
            "last": (["--prompt", "x", "--seed", 1, "--seed=2"], "seed", 2),
        }
        for name, (args, key, wanted) in cases.items():
            with self.subTest(name):
                out = f"{name}.y4m"
                done = self.generate_ok("--num-steps", 1, "--out", out, *args, prompt=None)
                request = json.loads((self.folder / f"{out}.json").read_text())["request"]
                self.assertEqual(request[key], wanted)
                self.assertEqual(done.stderr == "", name == "empty")

    def test_random_seeds_are_drawn_and_written_down(self):
        seeds = set()
        for out in ("a.y4m", "b.y4m"):
            self.generate_ok("--num-steps", 1, "--out", out, "--seed", "random")
            seeds.add(json.loads((self.folder / f"{out}.json").read_text())["request"]["seed"])
        self.assertEqual(len(seeds), 2)

    # ---- what happens to its messages ----

    def test_lost_messages_end_no_run(self):
        full = os.open("/dev/full", os.O_WRONLY)
        read_end, no_reader = os.pipe()
        os.close(read_end)
        command = [MOCHI, "generate", "--model-dir", str(self.model), "--prompt", PROMPT]
        for name, streams in {
            "closed": ">&- 2>&- <&-",
            "full": f">&{full} 2>&{full}",
            "no reader": f">&{no_reader} 2>&{no_reader}",
        }.items():
            with self.subTest(name):
                out = name.replace(" ", "-") + ".y4m"
                args = [*command, "--num-steps", "1", "--out", out]
                script = f'exec "$@" {streams}'
                done = subprocess.run(
                    ["bash", "-c", script, "bash", *args],
                    cwd=self.folder,
                    timeout=TIMEOUT_S,
                    pass_fds=(full, no_reader),
                    check=False,
                )
                self.assertEqual(done.returncode, 0)
                self.assertEqual(read_y4m(self.folder / out)[1], NUM_FRAMES)
        os.close(full)
        os.close(no_reader)

    def test_lost_results_are_errors(self):
        for streams in (">&-", ">/dev/full"):
            with self.subTest(streams):
                done = subprocess.run(
                    ["bash", "-c", f'"$@" {streams}', "bash", MOCHI, "manual"],
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
                self.expect_error(done, 1, "cannot write to the standard output")

    def test_progress_fits_a_narrow_terminal(self):
        for columns in (40, 100):
            with self.subTest(columns):
                leader, follower = os.openpty()
                size = struct.pack("HHHH", 24, columns, 0, 0)
                fcntl.ioctl(follower, termios.TIOCSWINSZ, size)
                command = [MOCHI, "generate", "--model-dir", str(self.model), "--prompt", PROMPT]
                child = subprocess.Popen(
                    [*command, "--out", f"{columns}.y4m"],
                    cwd=self.folder,
                    stdout=subprocess.DEVNULL,
                    stderr=follower,
                )
                os.close(follower)
                said = read_terminal(leader)
                self.assertEqual(child.wait(TIMEOUT_S), 0)
                self.assertIn("sampling [", said)
                phases = ("loading", "reading", "sampling", "decoding")
                for line in re.split(r"\r\x1b\[K|\r\n", said):
                    if line.startswith(phases):
                        self.assertLess(len(line), columns)

    # ---- the other commands ----

    def test_inspect(self):
        done = self.run_mochi("inspect", self.model)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("transformer", "depth: 2", "text encoder", "video decoder", "F32"):
            self.assertIn(word, done.stdout)
        self.assertNotIn("missing", done.stdout)
        done = self.run_mochi("inspect", self.model / "dit.safetensors", "--tensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("x_embedder.proj.weight F32 [32, 12, 2, 2]", done.stdout)
        self.expect_error(self.run_mochi("inspect", "none"), 1, "none")

    def test_inspect_incomplete(self):
        model = self.folder / "model"
        shutil.copytree(self.model, model)
        (model / "decoder.safetensors").write_bytes(
            (self.model / "decoder.safetensors")
            .read_bytes()
            .replace(b'"output_proj.bias"', b'"output_proj.bogs"')
        )
        done = self.run_mochi("inspect", model)
        self.assertEqual(done.returncode, 1)
        self.assertIn("missing tensors:", done.stdout)
        self.assertIn("output_proj.bogs", done.stdout)
        self.assertIn("the video decoder is incomplete", done.stderr)

    def test_inspect_several_paths(self):
        write_lora(self.folder / "lora.safetensors")
        (self.folder / "broken.safetensors").write_text("no weights")
        dit = self.model / "dit.safetensors"
        done = self.run_mochi("inspect", dit, "broken.safetensors", "none", "lora.safetensors")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{dit}:\nsizes from config.json\ntransformer\n", done.stdout)
        self.assertIn("lora.safetensors:\nLoRA\n", done.stdout)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 2, lines)
        self.assertIn("mochi: 'broken.safetensors' is a text file", lines[0])
        self.assertEqual(lines[1], "mochi: cannot open 'none': no such file or folder")

    def test_inspect_parts_of_a_model(self):
        dit = self.folder / "other.safetensors"
        shutil.copy(self.model / "dit.safetensors", dit)
        done = self.run_mochi("inspect", self.model, "--dit", dit)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"transformer\n  file: {dit}\n", done.stdout)
        self.assertIn("text encoder\n", done.stdout)
        tokenizer = self.model / "tokenizer" / "spiece.model"
        done = self.run_mochi("inspect", "--dit", self.model / "dit.safetensors", "--tokenizer", tokenizer)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"tokenizer\n  file: {tokenizer}\n", done.stdout)
        self.assertIn("not found: text encoder, video decoder, video encoder (only 'mochi encode' needs the video encoder)\n", done.stdout)
        self.assertNotIn("to download it", done.stdout)
        for args, line in (
            ((), "PATH: is required: "),
            (("--vae", dit), f"--vae: '{dit}' holds no video decoder, but the transformer"),
            ((self.model, self.model, "--dit", dit), "replace parts of one model folder: wanted at most one PATH"),
        ):  # fmt: skip
            self.expect_error(self.run_mochi("inspect", *args), 2, line)

    def test_version_and_help(self):
        for word in ("version", "--version"):
            self.assertRegex(self.run_mochi(word).stdout, r"^mochi \d+\.\d+\.\d+\n$")
        for args in (["--help"], ["generate", "--help"], ["inspect", "--help"]):
            done = self.run_mochi(*args)
            self.assertEqual(done.returncode, 0)
            self.assertLessEqual(len(done.stdout.splitlines()), 55)
        self.assertRegex(self.run_mochi("generate", "--help").stdout,
                         r"--width INT +pixels, a multiple of 16 \(default: the model's\)\n")
        bench = self.run_mochi("bench", "--help").stdout
        self.assertIn("Usage: mochi bench SUBJECT [NAMES ...] [flags]\n", bench)
        self.assertIn(": op, dit, sparse, vae, t5, video, load\n", bench)


if __name__ == "__main__":
    os.environ.pop("LC_ALL", None)
    unittest.main(argv=[__file__])
