"""Where the networks run, how much memory they get, networks of random weights, and what is left when
a step fails, as the user sees them.

Usage: device_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import re
import subprocess
import unittest

from support import MOCHI, PROMPT, ProgramTest, read_latents, read_y4m

NO_GPU = re.compile(
    "this program was built without CUDA|this machine has no NVIDIA driver|"
    "the NVIDIA driver (is too old: .*|reports no GPU)|the GPU .* is too old: .*"
)


def find_gpu_problem():
    """Why there is no GPU, or None."""
    args = [MOCHI, "generate", "--device", "cuda", "--random-weights", "mochi-1-preview"]
    args += ["--width", "1"]  # which is refused when there is a GPU
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    found = NO_GPU.search(done.stderr)
    return found and found.group()


GPU_PROBLEM = find_gpu_problem()


class DeviceTest(ProgramTest):
    @unittest.skipUnless(GPU_PROBLEM, "there is a GPU")
    def test_without_a_gpu(self):
        args = ["generate", "--model-dir", self.model, "--prompt", PROMPT, "--out", "a.y4m"]
        self.refuse(2, f"--device: {GPU_PROBLEM}", *args, "--device", "cuda")
        self.refuse(2, "--vram-limit: has no effect on the CPU", *args, "--vram-limit", "16GB")
        done = self.generate_ok("--out", "a.y4m")
        self.assertEqual(done.stderr.count(f"running on the CPU: {GPU_PROBLEM}\n"), 1)
        for quiet in (["--device", "cpu"], ["--quiet"]):
            done = self.generate_ok("--out", "a.y4m", *quiet)
            self.assertNotIn("running on the CPU", done.stderr)
        engine = json.loads(self.content("a.y4m.json"))["engine"]
        self.assertEqual((engine["device"], engine["device_name"]), ("cpu", "CPU"))

    def test_a_video_of_a_gpu_is_made_again_without_one(self):
        self.generate_ok("--out", "a.y4m", "--device", "cpu", "--dtype", "bf16")
        recipe = json.loads(self.content("a.y4m.json"))
        recipe["engine"]["device"] = "cuda"
        (self.folder / "gpu.json").write_text(json.dumps(recipe))
        done = self.run_mochi("generate", "--from-json", "gpu.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        if GPU_PROBLEM:
            self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_bad_sizes_of_memory(self):
        for size in ("x", "16XB", "-1GB", "0", "nan", "1e99GB"):
            with self.subTest(size):
                line = f"--vram-limit: wanted a size such as 16GB or 512MiB, found '{size}'"
                self.refuse(2, line, "generate", f"--vram-limit={size}")

    def test_random_weights(self):
        (self.folder / "sizes").mkdir()
        config = (self.model / "config.json").read_bytes()
        (self.folder / "sizes" / "config.json").write_bytes(config)
        args = ["generate", "--random-weights", "config", "--model-dir", "sizes", "--prompt", "x"]
        done = self.run_mochi(*args, "--out", "a.y4m", "--check-nan")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(read_y4m(self.folder / "a.y4m")[1], 13)
        model = json.loads(self.content("a.y4m.json"))["model"]
        self.assertEqual(model["random_weights"], "config")
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_random_weights_of_unknown_sizes(self):
        line = "--random-weights: wanted 'mochi-1-preview' or 'config', found 'mochi-9'"
        args = ["generate", "--random-weights", "mochi-9", "--prompt", "x", "--out", "a.y4m"]
        self.refuse(2, line, *args, "--device", "cpu")
        line = "cannot open 'none/config.json': No such file or folder"
        args = ["generate", "--random-weights", "config", "--model-dir", "none", "--prompt", "x"]
        self.refuse(1, line, *args, "--device", "cpu", "--out", "a.y4m")


@unittest.skipIf(GPU_PROBLEM, f"no GPU: {GPU_PROBLEM}")
class CudaDeviceTest(ProgramTest):
    def test_the_gpu_is_taken_and_named(self):
        done = self.generate_ok("--out", "a.y4m")
        self.assertNotIn("running on the CPU", done.stderr)
        sidecar = json.loads(self.content("a.y4m.json"))
        self.assertEqual(sidecar["engine"]["device"], "cuda")
        self.assertEqual(sidecar["engine"]["dtype"], "bf16")
        self.assertNotEqual(sidecar["engine"]["device_name"], "CPU")
        self.assertGreater(sidecar["peak_device_bytes"], 0)
        self.generate_ok("--out", "b.y4m")
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_offloaded_blocks_make_the_same_video(self):
        self.generate_ok("--out", "a.y4m")
        self.generate_ok("--out", "b.y4m", "--cpu-offload", "--vram-limit", "2GB")
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_too_little_memory(self):
        line = re.compile(
            r"--vram-limit: wanted more than the 1024 MiB that CUDA itself takes, found 953 MiB"
        )
        args = ["generate", "--model-dir", self.model, "--prompt", PROMPT, "--out", "a.y4m"]
        self.refuse(1, line, *args, "--vram-limit", "1GB")
        line = re.compile(
            r"(text encoder|transformer): .*GPU memory: wanted \d+ MiB more, in use are \d+ MiB, "
            r"available \d+ MiB of the limit of 1064 MiB; a smaller video needs less.*"
        )
        self.refuse(1, line, *args, "--quiet", "--vram-limit", "1064MiB")

    def test_too_little_memory_for_a_step(self):
        line = re.compile(
            r"transformer: (step 1 of 4: )?GPU memory: wanted .* of the limit of 1250 MiB; a smaller "
            r"video needs less, and so does --cpu-offload; --vram-limit may be too low"
        )
        size = ["--width", 2048, "--height", 2048, "--num-frames", 163]
        args = ["generate", "--model-dir", self.model, "--prompt", PROMPT, "--out", "a.y4m"]
        self.refuse(1, line, *args, *size, "--quiet", "--vram-limit", "1250MiB")

    def test_latents_are_saved_when_the_decoder_finds_too_little_memory(self):
        (self.folder / "sizes").mkdir()
        config = json.loads((self.model / "config.json").read_text())
        del config["vae"]  # that of Mochi 1: 0.7 GB
        (self.folder / "sizes" / "config.json").write_text(json.dumps(config))
        model = ["--random-weights", "config", "--model-dir", "sizes"]
        args = ["generate", *model, "--prompt", "x", "--quiet", "--out", "a.y4m"]
        line = re.compile(
            r"video decoder: GPU memory: .*; the sampled latents are saved; to continue: .* decode "
            r"a\.y4m\.latents\.safetensors --model-dir sizes --random-weights config --out a\.y4m "
            r"--fps 30"
        )
        self.expect_line(self.run_mochi(*args, "--vram-limit", "1400MiB"), 1, line)
        latents = self.folder / "a.y4m.latents.safetensors"
        self.assertEqual(read_latents(latents)[0]["shape"], [1, 12, 3, 6, 8])
        done = self.run_mochi("decode", latents, *model, "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(read_y4m(self.folder / "b.y4m")[1], 13)

    def test_a_checkpoint_continues_on_the_cpu(self):
        self.kill_at_checkpoint(
            self.folder / "a.y4m.checkpoint.safetensors", "--out", "a.y4m", "--checkpoint-every", 1
        )
        done = self.run_mochi("generate", "--resume", "a.y4m.checkpoint.safetensors", "--device", "cpu")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
