"""LoRAs as users give them.

Usage: lora_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import unittest

from support import ProgramTest, write_latents, write_lora


class LoraTest(ProgramTest):
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
             " has no matching lora_B"),
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
        self.assertIn("alpha: not given: equal to the rank", done.stdout)
        self.assertIn("blocks.0.attn.qkv_x.lora_A F32 [2, 32]", done.stdout)
        write_lora(self.folder / "c.safetensors", up=".alpha")
        self.expect_error(self.run_mochi("inspect", "c.safetensors"), 1, "has no matching lora_B")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
