"""LoRAs as users give them.

Usage: lora_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import unittest

from support import ProgramTest, write_constants, write_latents, write_lora

LAYER = "blocks.0.attn.qkv_x"
KOHYA = "lora_unet_blocks_0_attn_qkv_x"
# Files by their kinds: the tensors, and what inspect has to report.
KINDS = {
    "kohya": (
        {
            f"{KOHYA}.lora_down.weight": ([2, 32], 0.25),
            f"{KOHYA}.lora_up.weight": ([96, 2], 1.0),
            f"{KOHYA}.alpha": ([], 2.0),
        },
        ("kind: LoRA", "spelling: kohya", "layers: 1", "rank: 2", "alpha: 2"),
    ),
    "dora": (
        {
            f"base_model.model.{LAYER}.lora_A.weight": ([2, 32], 0.25),
            f"base_model.model.{LAYER}.lora_B.weight": ([96, 2], 0.5),
            f"base_model.model.{LAYER}.lora_magnitude_vector": ([96], 3.0),
        },
        ("kind: DoRA", "spelling: PEFT", "rank: 2", "alpha: not given: equal to the rank"),
    ),
    "lokr": (
        {
            "lycoris_blocks_0_attn_qkv_x.lokr_w1": ([3, 4], 0.75),
            "lycoris_blocks_0_attn_qkv_x.lokr_w2_a": ([32, 2], 0.5),
            "lycoris_blocks_0_attn_qkv_x.lokr_w2_b": ([2, 8], 0.5),
            "lycoris_blocks_0_attn_qkv_x.alpha": ([], 4.0),
        },
        ("kind: LoKr", "spelling: LyCORIS", "rank: 2", "alpha: 4"),
    ),
    "difference": (
        {
            f"diffusion_model.{LAYER}.diff": ([96, 32], 0.25),
            "diffusion_model.blocks.0.attn.proj_x.diff_b": ([32], 0.25),
        },
        ("kinds: difference (1), difference of biases (1)", "spelling: ComfyUI", "layers: 2",
         "rank: none, whole matrices"),
    ),
}


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

    def test_every_kind_changes_the_video_and_is_named(self):
        def sample(*args):
            self.generate_ok(*args, "--out", "a.y4m", "--num-steps", 1, "--dtype", "fp32")
            return (self.folder / "a.y4m").read_bytes()

        write_lora(self.folder / "genmo.safetensors")
        videos = [sample(), sample("--lora-path", "genmo.safetensors")]
        for kind, (tensors, reported) in KINDS.items():
            file = f"{kind}.safetensors"
            write_constants(self.folder / file, tensors)
            video = sample("--lora-path", file)
            self.assertEqual(video == videos[1], kind == "kohya", kind)
            self.assertNotIn(video, videos[2:] + videos[:1])
            videos.append(video)
            self.assertEqual(sample("--lora-path", f"{file}:0"), videos[0])
            done = self.run_mochi("inspect", file)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            for line in reported:
                self.assertIn(f"  {line}", done.stdout.splitlines())

    def test_loras_that_do_not_fit(self):
        write_lora(self.folder / "wide.safetensors", width=64)
        write_lora(self.folder / "lonely.safetensors", up=".alpha")
        write_lora(self.folder / "good.safetensors")
        write_lora(self.folder / "flux.safetensors", key="lora_unet_double_blocks_0_img_attn_qkv")
        write_lora(self.folder / "text.safetensors", key="lora_te_encoder_block_0",
                   down=".lora_down.weight", up=".lora_up.weight")
        write_lora(self.folder / "tucker.safetensors", up=".lora_mid.weight")
        cases = [
            (1, "flux.safetensors", "tensor 'lora_unet_double_blocks_0_img_attn_qkv.lora_A' in "
             "'flux.safetensors': the model has no layer 'lora_unet_double_blocks_0_img_attn_qkv',"
             " did you mean"),
            (1, "text.safetensors", "tensor 'lora_te_encoder_block_0.lora_down.weight' in "
             "'text.safetensors' belongs to a LoRA of a text encoder, which is not supported"),
            (1, "tucker.safetensors", "belongs to a LoCon (a Tucker decomposition)"),
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

    def test_an_alpha_of_zero_causes_a_warning(self):
        kwargs = json.dumps({"qkv_proj_lora_alpha": 0})
        write_lora(self.folder / "a.safetensors", metadata={"kwargs": kwargs})
        lora = ("--lora-path", "a.safetensors")
        told = "LoRA 'a.safetensors' changes nothing, because its alpha is 0"
        done = self.generate_ok(*lora, "--num-steps", 1, "--out", "a.y4m")
        self.assertEqual(done.stderr.splitlines().count(f"warning: {told}"), 1, done.stderr)
        dit = self.model / "dit.safetensors"
        done = self.run_mochi("convert", dit, "b.safetensors", "--to", "bf16", *lora)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.splitlines().count(f"warning: {told}"), 1, done.stderr)
        self.assertIn("converting the transformer ...\n", done.stderr)
        self.assertIn(told, self.run_mochi("inspect", "a.safetensors").stdout.splitlines())
        write_lora(self.folder / "a.safetensors")
        self.assertNotIn("changes nothing", self.generate_ok(*lora, "--num-steps", 1, "--out", "c.y4m").stderr)

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
