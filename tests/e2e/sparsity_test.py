"""Sparse attention from the command line.

Usage: sparsity_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import unittest
from pathlib import Path

from support import ProgramTest

BUNDLED = Path(__file__).resolve().parents[2] / "chipmunk-config.yml"
CONFIG = """
attn:
  delta: subtract
  top_keys: 0.2
  mbm: 64
  counts_multiple_of: 16
  first_n_dense_layers: 0
  full_step_schedule: !!set {0, 1, 5}
"""


class SparsityTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.config = self.folder / "c.yml"
        self.config.write_text(CONFIG)

    def test_a_sparse_video_is_made_again(self):
        args = ["--num-steps", 8, "--num-frames", 25]
        self.generate_ok(*args, "--chipmunk_config", "c.yml", "--out", "a.y4m")
        self.generate_ok(*args, "--no-sparsity", "--out", "dense.y4m")
        self.generate_ok(*args, "--out", "plain.y4m")
        self.assertEqual(self.content("dense.y4m"), self.content("plain.y4m"))
        self.assertNotEqual(self.content("a.y4m"), self.content("dense.y4m"))
        request = json.loads(self.content("a.y4m.json"))["request"]
        self.assertEqual(request["sparsity"]["attn"]["full_step_schedule"], [0, 1, 5])
        self.assertEqual(request["sparsity"]["offloading"]["attn.out_cache"], True)
        self.assertNotIn("sparsity", json.loads(self.content("dense.y4m.json"))["request"])

        self.config.unlink()  # the JSON knows all of it
        again = ["generate", "--from-json", "a.y4m.json", "--out"]
        done = self.run_mochi(*again, "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))
        self.run_mochi(*again, "d.y4m", "--no-sparsity")
        self.assertEqual(self.content("d.y4m"), self.content("dense.y4m"))

    def test_a_sweep_over_configurations(self):
        lines = [{"chipmunk_config": "c.yml", "out": "a.y4m"}, {"no_sparsity": True, "out": "b.y4m"},
                 {"out": "c.y4m"}]
        (self.folder / "sweep.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        self.generate_ok("--sweep-file", "sweep.jsonl", "--chipmunk-config", BUNDLED,
                         "--num-steps", 2)
        top_keys = []
        for name in ("a", "c"):
            request = json.loads(self.content(f"{name}.y4m.json"))["request"]
            top_keys.append(request["sparsity"]["attn"]["top_keys"])
        self.assertEqual(top_keys, [0.2, 0.15])
        self.assertNotIn("sparsity", json.loads(self.content("b.y4m.json"))["request"])

    def test_killed_and_resumed_is_the_same_video(self):
        self.config.write_text(CONFIG + "mlp: {is_enabled: true, counts_multiple_of: 4, "
                                        "first_n_dense_layers: 0, block_mask_cache: 4}\n")
        args = ["--num-steps", 120, "--chipmunk-config", self.config, "--out", "a.y4m"]
        checkpoint = self.folder / "a.y4m.checkpoint.safetensors"
        self.kill_at_checkpoint(checkpoint, *args, "--checkpoint-every", 7)
        resume = ["--out", "a.y4m", "--resume"]
        self.expect_error(self.generate("--no-sparsity", *resume), 1,
                          "the checkpoint's video has its own sparsity")
        self.expect_error(self.generate("--chipmunk-config", BUNDLED, "--quiet", *resume), 1,
                          "the checkpoint's video has another sparsity")
        done = self.generate_ok(*args, "--resume")
        self.assertIn("done before", done.stderr)
        resumed = self.content("a.y4m")
        self.generate_ok(*args[:-1], "b.y4m")
        self.assertEqual(resumed, self.content("b.y4m"))

    def test_sparse_feed_forward_layers(self):
        self.config.write_text("attn: {is_enabled: false}\n"
                               "mlp: {is_enabled: true, counts_multiple_of: 4, full_step_every: 4,\n"
                               "      first_n_dense_layers: 0, block_mask_cache: 3}\n")
        args = ["--num-steps", 8, "--num-frames", 25]
        sparse = [*args, "--chipmunk-config", "c.yml"]
        self.generate_ok(*args, "--out", "dense.y4m")
        done = self.generate_ok(*sparse, "--out", "a.y4m")
        self.assertNotIn("warning", done.stderr)
        self.assertNotEqual(self.content("a.y4m"), self.content("dense.y4m"))
        # The block of 128 tokens and the rest are the same whoever computes them.
        self.generate_ok(*sparse, "--threads", 1, "--out", "b.y4m")
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))
        self.config.write_text("mlp: {is_enabled: true, counts_multiple_of: 64}")
        done = self.generate_ok("--num-steps", 2, "--chipmunk-config", "c.yml", "--out", "c.y4m")
        self.assertIn("select all 48 hidden columns: nothing is saved", done.stderr)

    def test_steps_beyond_the_last_cause_a_warning(self):
        done = self.generate_ok("--num-steps", 2, "--chipmunk-config", "c.yml", "--out", "a.y4m")
        self.assertIn("warning: attn.full_step_schedule: step 5 lies beyond the last of 2 steps and "
                      "is ignored", done.stderr)

    def test_overruled_keys_cause_warnings(self):
        self.config.write_text(CONFIG + "  full_step_every: 5\n  local_voxels: 2\n"
                                        "patchify: {is_enabled: false}\n")
        args = ["--num-steps", 6, "--chipmunk-config", "c.yml", "--out", "a.y4m"]
        done = self.generate_ok(*args)
        self.assertIn("warning: c.yml:9: attn.full_step_every has no effect, because "
                      "attn.full_step_schedule is given\n", done.stderr)
        self.assertIn("warning: attn.local_voxels = 2 does not select neighbours, because "
                      "patchify.is_enabled is false: ", done.stderr)
        # The program writes the JSON next to a video, so overruled keys in it are no mistake.
        self.config.unlink()
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertNotIn("full_step_every", done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_the_json_of_an_older_version_gives_its_video(self):
        """Older versions wrote all keys of the reference, also those without effect."""
        self.generate_ok("--num-steps", 6, "--chipmunk-config", "c.yml", "--out", "a.y4m")
        recipe = json.loads(self.content("a.y4m.json"))
        sparsity = recipe["request"]["sparsity"]
        sparsity.update(num_model_invocations_per_inference_step=2, steps=64)
        sparsity["attn"].update(should_compress_indices=True, pad_qkv_before_kernel=True,
                                full_step_every=10, min_keys=0.02)
        sparsity["mlp"].update(is_fp8=False, bm=128, mbm=128)
        sparsity["offloading"].update({"attn.counts": False, "mlp.sparse_act_T": False,
                                       "text_encoders": True})
        (self.folder / "old.json").write_text(json.dumps(recipe))
        done = self.run_mochi("generate", "--from-json", "old.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("warning", done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))

    def test_bad_configurations(self):
        cases = {
            "attn:\n  top_key: 1": "c.yml:2: key 'attn.top_key' is not known; did you mean "
                                   "'attn.top_keys'?",
            "attn: {top_keys: 2}": "c.yml:1: attn.top_keys: wanted 0 to 1, found 2",
            "attn: [": "c.yml:1: wanted YAML, found a syntax error at column ",
            "mlp: {is_enabled: true, is_fp8: true}":
                "c.yml:1: mlp.is_fp8: wanted false, found true: sparse feed-forward layers have no 8-bit matmuls",
        }
        for text, message in cases.items():
            with self.subTest(text):
                self.config.write_text(text)
                self.expect_error(self.generate("--chipmunk-config", "c.yml"), 1, message)
        self.expect_error(self.generate("--chipmunk-config", "no.yml"), 1,
                          "cannot read 'no.yml': No such file or folder")
        self.expect_error(self.generate("--chipmunk-config", "c.yml", "--no-sparsity"), 2,
                          "--chipmunk-config has no effect with --no-sparsity")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
