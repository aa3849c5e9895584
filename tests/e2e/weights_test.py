"""`--weights`: matrices that stay in memory as their file stores them, or are made smaller when they are loaded."""

import json
import shutil
import unittest
from pathlib import Path

from support import ProgramTest, write_lora

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "models/micro"
SMALL = ("--width", 64, "--height", 64, "--num-frames", 7, "--num-steps", 3)
PROMPT = "a large green ring moves to the left on a dark background"
# Precision, and the ending of a file that has it.
PRECISIONS = (("fp8", "safetensors"), ("q8_0", "gguf"), ("q4_k", "gguf"))


class Weights(ProgramTest):
    def make_video(self, model, out, *args):
        done = self.run_mochi("generate", "--model-dir", model, "--prompt", PROMPT, "--out", out, "--seed", 7, *SMALL, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.content(out)

    def convert(self, precision, ending):
        """A copy of the micro model with the transformer and the text encoder in this precision."""
        model = self.folder / precision
        shutil.copytree(MICRO, model, ignore=shutil.ignore_patterns("dit.safetensors", "text_encoder"))
        for name, network in (("dit", "transformer"), ("t5", "text-encoder")):
            done = self.run_mochi("convert", MICRO, model / f"{name}.{ending}", "--to", precision, "--network", network)
            self.assertEqual(done.returncode, 0, done.stderr)
        return model

    def test_a_stored_precision_gives_the_video_of_widened_and_of_quantised_weights(self):
        for precision, ending in PRECISIONS:
            model = self.convert(precision, ending)
            for dtype in ("fp32", "bf16"):
                with self.subTest(precision, dtype=dtype):
                    kept = self.make_video(model, "kept.y4m", "--dtype", dtype)
                    widened = self.make_video(model, "widened.y4m", "--dtype", dtype, "--weights", "bf16")
                    quantised = self.make_video(MICRO, "quantised.y4m", "--dtype", dtype, "--weights", precision)
                    original = self.make_video(MICRO, "original.y4m", "--dtype", dtype)
                    self.assertEqual(kept, widened)
                    self.assertEqual(kept, quantised)
                    self.assertNotEqual(kept, original)

    def test_a_precision_changes_from_file_to_memory(self):
        model = self.convert("q8_0", "gguf")
        self.assertNotEqual(
            self.make_video(model, "a.y4m", "--weights", "q4_k"), self.make_video(model, "b.y4m", "--weights", "auto")
        )

    def test_sparse_attention_and_sparse_mlps_take_them(self):
        model = self.convert("q8_0", "gguf")
        config = self.folder / "sparse.yml"
        config.write_text("mlp:\n  is_enabled: true\n  is_fp8: false\n  top_keys: 0.3\n")
        sparse = ("--chipmunk-config", config)
        self.assertEqual(
            self.make_video(model, "kept.y4m", *sparse), self.make_video(model, "wide.y4m", *sparse, "--weights", "bf16")
        )

    def test_loras_change_widened_weights(self):
        write_lora(self.folder / "lora.safetensors")
        lora = ("--lora-path", self.folder / "lora.safetensors:0.5")

        def video(name, *args):
            done = self.run_mochi("generate", "--model-dir", self.model, "--prompt", "a", "--out", name, *args)
            self.assertEqual(done.returncode, 0, done.stderr)
            return self.content(name)

        plain = video("plain.y4m", "--weights", "q8_0")
        changed = video("changed.y4m", "--weights", "q8_0", *lora)
        self.assertNotEqual(plain, changed)
        # Converting with the LoRA gives the same weights.
        model = self.folder / "styled"
        shutil.copytree(self.model, model, ignore=shutil.ignore_patterns("dit.safetensors"))
        done = self.run_mochi("convert", self.model / "dit.safetensors", model / "dit.gguf", "--to", "q8_0", *lora)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.run_mochi("generate", "--model-dir", model, "--prompt", "a", "--out", "baked.y4m", "--weights", "q8_0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("baked.y4m"), changed)

    def test_a_recipe_keeps_the_precision(self):
        original = self.make_video(MICRO, "a.y4m", "--weights", "q4_0")
        recipe = json.loads((self.folder / "a.y4m.json").read_text())
        self.assertEqual(recipe["engine"]["weights"], "q4_0")
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("b.y4m"), original)
        recipe["engine"]["weights"] = "q9"
        (self.folder / "bad.json").write_text(json.dumps(recipe))
        self.refuse(1, "bad.json: engine.weights: wanted bf16, fp16, fp8, q8_0, q6_k, q5_k, q4_k, q4_0, found 'q9'",
                    "generate", "--from-json", "bad.json", "--out", "c.y4m")  # fmt: skip

    def test_a_video_is_not_continued_with_other_weights(self):
        args = ("--num-steps", 120, "--seed", 4, "--out", "a.y4m", "--weights", "q8_0")
        checkpoint = self.folder / "a.y4m.checkpoint.safetensors"
        self.kill_at_checkpoint(checkpoint, *args, "--checkpoint-every", 7)
        done = self.run_mochi("generate", "--resume", checkpoint, "--weights", "q4_0")
        self.expect_error(done, 1, 'the checkpoint\'s video has weights "q8_0", wanted is "q4_0"')
        self.generate_ok("--resume", *args)
        whole = self.folder / "a.y4m"
        resumed = whole.read_bytes()
        self.generate_ok(*args)
        self.assertEqual(whole.read_bytes(), resumed)
        self.generate_ok(*args, "--save-latents", "l.safetensors")
        self.refuse(2, "--weights has no effect with --from-latents",
                    "generate", "--model-dir", self.model, "--from-latents", "l.safetensors", "--weights", "q8_0", "--out", "b.y4m")  # fmt: skip

    def test_random_weights_take_every_precision(self):
        videos = {}
        for precision in ("auto", "bf16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0"):
            videos[precision] = self.make_video(MICRO, f"{precision}.y4m", "--random-weights", "config", "--weights", precision)
        self.assertEqual(videos["auto"], videos["bf16"])
        self.assertEqual(len(set(videos.values())), 7)

    def test_unknown_precisions_are_refused(self):
        self.refuse(2, "--weights: wanted 'auto', 'bf16', 'fp8', 'q8_0', 'q6_k', 'q5_k', 'q4_k' or 'q4_0', found 'fp16'",
                    "generate", "--prompt", "a", "--weights", "fp16", "--out", "a.y4m")  # fmt: skip
        self.refuse(2, "--weights: works with 'dit', 'sparse', 't5', 'video' and 'load' only",
                    "bench", "vae", "--weights", "q8_0")  # fmt: skip


if __name__ == "__main__":
    unittest.main(argv=[__file__])
