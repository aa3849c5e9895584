"""The program as users run it: what it writes, what it says, and what it leaves behind.

Usage: cli_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

MOCHI, MAKE_TINY_MODEL, SPIECE_MODEL = (str(Path(arg).resolve()) for arg in sys.argv[1:4])
PROMPT = "a small red ball moves slowly to the left"
WIDTH, HEIGHT, NUM_FRAMES = 64, 48, 13
TIMEOUT_S = 60


def read_y4m(path):
    """The header's words and the number of frames."""
    content = path.read_bytes()
    header, rest = content.split(b"\n", 1)
    return header.split(), rest.count(b"FRAME\n")


def write_latents(path, sizes, dtype="F32", name="latents", values=None):
    count = 1
    for size in sizes:
        count *= size
    item_bytes = {"F32": 4, "F16": 2}[dtype]
    data = struct.pack(f"<{count}f", *(values or [0.5] * count))[: count * item_bytes]
    entry = {"dtype": dtype, "shape": sizes, "data_offsets": [0, len(data)]}
    header = json.dumps({name: entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def write_safetensors(path, tensors, metadata=None):
    """`tensors` are names with sizes and one value that all elements have."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (sizes, value) in tensors.items():
        count = 1
        for size in sizes:
            count *= size
        begin = len(data)
        data += struct.pack(f"<{count}f", *[value] * count)
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_lora(path, width=32, down=".lora_A", up=".lora_B", metadata=None):
    """Of the tiny model's first block, strong enough to change the video."""
    key = "blocks.0.attn.qkv_x"
    tensors = {key + down: ([2, width], 0.25), key + up: ([3 * width, 2], 1.0)}
    write_safetensors(path, tensors, metadata)


def read_latents(path):
    content = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + header_bytes])
    return header["latents"], content[8 + header_bytes :]


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="mochi-e2e-"))
        cls.model = cls.shared / "model"
        subprocess.run([MAKE_TINY_MODEL, cls.model, SPIECE_MODEL], check=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=self.shared))

    def run_mochi(self, *args):
        return subprocess.run(
            [MOCHI, *map(str, args)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def generate(self, *args, prompt=PROMPT):
        given = [] if prompt is None else ["--prompt", prompt]
        return self.run_mochi("generate", "--model-dir", self.model, *given, *args)

    def generate_ok(self, *args, prompt=PROMPT):
        done = self.generate(*args, prompt=prompt)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def entries(self):
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*"))

    def expect_error(self, done, exit_code, *parts):
        """One line on stderr with these parts; nothing written."""
        self.assertEqual(done.returncode, exit_code, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("mochi: "), lines[0])
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertEqual(done.stdout, "")

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

    def test_quiet_says_nothing(self):
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

    def test_bad_latent_files(self):
        cases = {
            "dtype": ([1, 12, 1, 2, 2], {"dtype": "F16"}, "wanted F32 [1, channels, T, H, W]"),
            "rank": ([12, 1, 2, 2], {}, "found F32 [12, 1, 2, 2]"),
            "batch": ([2, 12, 1, 2, 2], {}, "found F32 [2, 12, 1, 2, 2]"),
            "name": ([1, 12, 1, 2, 2], {"name": "samples"}, "wanted one tensor 'latents'"),
            "channels": ([1, 3, 1, 2, 2], {}, "latents: wanted [12"),
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

    # ---- LoRA ----

    def test_loras_change_the_video_and_are_recorded(self):
        write_lora(self.folder / "a.safetensors")
        write_lora(self.folder / "b:0.5", down=".lora_down.weight", up=".lora_up.weight")
        videos = {}
        for name, args in {
            "plain": [],
            "zero": ["--lora-path", "a.safetensors:0"],
            "one": ["--lora-path", "a.safetensors"],
            "half": ["--lora-path=a.safetensors:0.5"],
            "both": ["--lora_path", "a.safetensors:1.5", "--lora-path", "b:0.5:-1"],
            "colon": ["--lora-path", "b:0.5"],
        }.items():
            self.generate_ok(*args, "--out", f"{name}.y4m", "--num-steps", 1, "--dtype", "fp32")
            videos[name] = (self.folder / f"{name}.y4m").read_bytes()
        def distance(left, right):
            return sum(abs(a - b) for a, b in zip(videos[left], videos[right], strict=True))

        self.assertEqual(videos["zero"], videos["plain"])
        self.assertNotEqual(videos["one"], videos["plain"])
        self.assertNotEqual(videos["half"], videos["one"])
        self.assertLess(distance("both", "half"), 0.02 * distance("half", "plain"))
        self.assertEqual(videos["colon"], videos["one"])

        def recorded(name):
            return json.loads((self.folder / f"{name}.y4m.json").read_text())["model"]["loras"]

        self.assertEqual(recorded("plain"), [])
        first, second = recorded("both")
        self.assertEqual((first["scale"], second["scale"]), (1.5, -1))
        self.assertEqual(first["path"], str(self.folder / "a.safetensors"))
        self.assertEqual(second["path"], str(self.folder / "b:0.5"))
        self.assertEqual(second["size_bytes"], (self.folder / "b:0.5").stat().st_size)
        self.assertEqual(len(first["fingerprint"]), 16)
        self.assertNotEqual(first["fingerprint"], second["fingerprint"])

    def test_loras_that_do_not_fit(self):
        write_lora(self.folder / "wide.safetensors", width=64)
        write_lora(self.folder / "lonely.safetensors", up=".alpha")
        write_lora(self.folder / "good.safetensors")
        cases = [
            (1, "wide.safetensors", "tensor 'blocks.0.attn.qkv_x.lora_A' in 'wide.safetensors': "
             "wanted shape [2, 32], found [2, 64]"),
            (1, "wide.safetensors:0", "tensor 'blocks.0.attn.qkv_x.lora_A'"),
            (1, "lonely.safetensors", "tensor 'blocks.0.attn.qkv_x.lora_A' in 'lonely.safetensors'"
             " has no lora_B"),
            (1, "none.safetensors", "cannot open 'none.safetensors'"),
            (1, self.model / "dit.safetensors", "is no part of a LoRA"),
            (1, self.model, "wanted a .safetensors file, found a folder"),
            (2, "good.safetensors:much", "--lora-path: wanted FILE or FILE:scale, found "
             "'good.safetensors:much'"),
            (2, "good.safetensors:", "--lora-path: wanted FILE"),
            (2, "good.safetensors:nan", "--lora-path: wanted FILE"),
            (2, ":1", "--lora-path: wanted FILE"),
        ]
        for exit_code, lora, message in cases:
            with self.subTest(lora):
                done = self.generate("--lora-path", lora, "--out", "a.y4m")
                self.expect_error(done, exit_code, message)
        write_latents(self.folder / "l.safetensors", [1, 12, 1, 2, 2])
        args = ["--from-latents", "l.safetensors", "--lora-path", "good.safetensors"]
        self.expect_error(self.generate(*args, prompt=None), 2, "--lora-path", "has no effect")
        self.assertFalse((self.folder / "a.y4m").exists())

    def test_inspect_a_lora(self):
        kwargs = json.dumps({"qkv_proj_lora_rank": 2, "qkv_proj_lora_alpha": 5})
        write_lora(self.folder / "a.safetensors", metadata={"kwargs": kwargs})
        write_lora(self.folder / "b.safetensors")
        done = self.run_mochi("inspect", "a.safetensors")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for line in ("LoRA", "  layers: 1", "  rank: 2", "  alpha: 5"):
            self.assertIn(line, done.stdout.splitlines())
        done = self.run_mochi("inspect", "b.safetensors", "--tensors")
        self.assertIn("alpha: not stated, taken as the rank", done.stdout)
        self.assertIn("blocks.0.attn.qkv_x.lora_A F32 [2, 32]", done.stdout)
        write_lora(self.folder / "c.safetensors", up=".alpha")
        self.expect_error(self.run_mochi("inspect", "c.safetensors"), 1, "has no lora_B")

    # ---- what it refuses ----

    def test_bad_flags(self):
        cases = [
            (["--num-frames", 42], "--num-frames: wanted 6·k + 1, found 42"),
            (["--width", 100], "--width: wanted a multiple of 16, found 100"),
            (["--height", -16], "--height: wanted a multiple of 16"),
            (["--num-steps", 0], "--num-steps: wanted 1 to"),
            (["--threshold-noise", 2], "--threshold-noise: wanted 0 to below 1"),
            (["--linear-steps", 9], "--linear-steps: wanted 1 to 3"),
            (["--cfg-schedule", "1,2", "--num-steps", 4], "--cfg-schedule: wanted 4 values"),
            (["--noise-source", "dice"], "--noise-source: wanted"),
            (["--fps", 0], "--fps: wanted 1 to 1000"),
            (["--seed", "many"], "--seed"),
            (["--seed=-1"], "--seed: wanted 0 or more, found -1"),
            (["--with", 64], "unknown flag '--with', did you mean '--width'?"),
            (["--from-latents", "x.safetensors"], "--prompt"),
            (["stray"], "unexpected argument 'stray'"),
        ]
        for args, message in cases:
            with self.subTest(args):
                self.expect_error(self.generate("--out", "a.y4m", *args), 2, message)
        self.expect_error(self.generate(prompt=None), 2, "--prompt is missing")
        self.expect_error(self.generate(prompt=b"\xff".decode(errors="surrogateescape")), 2,
                          "--prompt: not valid UTF-8")
        self.expect_error(self.run_mochi("generat"), 2, "did you mean 'generate'?")
        self.expect_error(self.run_mochi(), 2, "mochi --help")
        self.assertEqual(self.entries(), [])

    def test_bad_machine_and_files(self):
        cases = [
            (["--dtype", "fp7"], "--dtype: wanted"),
            (["--device", "tpu"], "--device: wanted"),
            (["--threads", -1], "--threads: wanted"),
            (["--out", "nowhere/a.y4m"], "nowhere"),
            (["--out", "a.avi"], ".mp4"),
            (["--out", "a.y4m", "--save-latents", "nowhere/l.safetensors"], "nowhere"),
        ]
        for args, message in cases:
            with self.subTest(args):
                self.expect_error(self.generate(*args), 1, message)
        done = self.run_mochi("generate", "--prompt", "x", "--model-dir", "none", "--out", "a.y4m")
        self.expect_error(done, 1, "model directory 'none' does not exist")
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
        self.assertIn("mochi: interrupted", rest)
        self.assertEqual(self.entries(), [])

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
            (self.model / "decoder.safetensors").read_bytes().replace(b'"output_proj.bias"', b'"output_proj.bogs"')
        )
        done = self.run_mochi("inspect", model)
        self.assertEqual(done.returncode, 1)
        self.assertIn("missing tensors:", done.stdout)
        self.assertIn("output_proj.bogs", done.stdout)
        self.assertIn("the video decoder is incomplete", done.stderr)

    def test_version_and_help(self):
        for word in ("version", "--version"):
            self.assertRegex(self.run_mochi(word).stdout, r"^mochi \d+\.\d+\.\d+\n$")
        for args in (["--help"], ["generate", "--help"], ["inspect", "--help"]):
            done = self.run_mochi(*args)
            self.assertEqual(done.returncode, 0)
            self.assertLessEqual(len(done.stdout.splitlines()), 40)


if __name__ == "__main__":
    os.environ.pop("LC_ALL", None)
    unittest.main(argv=sys.argv[:1])
