"""`--compute`: linear layers of the transformer that multiply in 8 bits."""

import json
import unittest
from pathlib import Path

from support import ProgramTest, write_lora

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "models/micro"
SMALL = ("--width", 64, "--height", 64, "--num-frames", 7, "--num-steps", 3)
PROMPT = "a large green ring moves to the left on a dark background"
TYPES = ("int8", "fp8")


class Compute(ProgramTest):
    def make_video(self, model, out, *args):
        done = self.run_mochi("generate", "--model-dir", model, "--prompt", PROMPT, "--out", out, "--seed", 7, *SMALL, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.content(out)

    def test_8_bits_change_the_video_and_repeat_it(self):
        plain = self.make_video(MICRO, "a.y4m")
        self.assertEqual(plain, self.make_video(MICRO, "a.y4m", "--compute", "auto"))
        self.assertEqual(plain, self.make_video(MICRO, "a.y4m", "--compute", "bf16"))
        videos = {plain}
        for compute in TYPES:
            video = self.make_video(MICRO, "a.y4m", "--compute", compute)
            self.assertEqual(video, self.make_video(MICRO, "a.y4m", "--compute", compute, "--threads", 1))
            videos.add(video)
        self.assertEqual(len(videos), 3)

    def test_the_other_layers_keep_their_precision(self):
        for compute in TYPES:
            exact = self.make_video(MICRO, "a.y4m", "--compute", compute)
            self.assertNotEqual(exact, self.make_video(MICRO, "a.y4m", "--compute", compute, "--weights", "q4_0"))

    def test_rows_that_a_file_has_quantised_are_used_as_they_are(self):
        files = []
        for flag, network in (("--dit", "transformer"), ("--text-encoder", "text-encoder")):
            files += [flag, f"{network}.safetensors"]
            done = self.run_mochi("convert", MICRO, files[-1], "--to", "fp8", "--network", network)
            self.assertEqual(done.returncode, 0, done.stderr)
        of_files = self.make_video(MICRO, "a.y4m", "--compute", "fp8", *files)
        self.assertEqual(of_files, self.make_video(MICRO, "a.y4m", "--compute", "fp8", "--weights", "fp8"))

    def test_loras_are_added_before_weights_are_quantised(self):
        write_lora(self.folder / "lora.safetensors")

        def video(out, *args):
            done = self.run_mochi("generate", "--model-dir", self.model, "--prompt", "a", "--out", out, "--compute", "int8", *args)
            self.assertEqual(done.returncode, 0, done.stderr)
            return self.content(out)

        plain = video("plain.y4m")
        lora = ("--lora-path", self.folder / "lora.safetensors:0.5")
        changed = video("changed.y4m", *lora)
        self.assertNotEqual(plain, changed)
        self.assertEqual(video("none.y4m", "--lora-path", self.folder / "lora.safetensors:0"), plain)

    def test_sparse_attention_and_skipped_steps_take_them(self):
        args = ("--num-steps", 24, "--chipmunk-config", ROOT / "chipmunk-config.yml")
        self.assertNotEqual(self.make_video(MICRO, "a.y4m", *args), self.make_video(MICRO, "a.y4m", *args, "--compute", "int8"))

    def test_sparse_feed_forward_layers_refuse_them(self):
        config = self.folder / "sparse.yml"
        config.write_text("mlp:\n  is_enabled: true\n  is_fp8: false\n  top_keys: 0.3\n")
        done = self.run_mochi("generate", "--model-dir", MICRO, "--prompt", "a", "--out", "a.y4m", *SMALL, "--compute", "int8", "--chipmunk-config", config)
        self.assertEqual(done.returncode, 2, done.stderr)
        line = "mochi: --compute: wanted bf16 with sparse feed-forward layers (mlp.is_enabled), found int8"
        self.assertEqual(done.stderr.splitlines()[-1], line)
        self.assertFalse((self.folder / "a.y4m").exists())

    def test_a_recipe_keeps_the_type(self):
        original = self.make_video(MICRO, "a.y4m", "--compute", "int8")
        recipe = json.loads((self.folder / "a.y4m.json").read_text())
        self.assertEqual(recipe["engine"]["compute"], "int8")
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("b.y4m"), original)
        recipe["engine"]["compute"] = "int4"
        (self.folder / "bad.json").write_text(json.dumps(recipe))
        self.refuse(1, "bad.json: engine.compute: wanted bf16, int8, fp8, found 'int4'",
                    "generate", "--from-json", "bad.json", "--out", "c.y4m")  # fmt: skip

    def test_a_video_is_not_continued_in_another_type(self):
        args = ("--num-steps", 120, "--seed", 4, "--out", "a.y4m", "--compute", "int8")
        checkpoint = self.folder / "a.y4m.checkpoint.safetensors"
        self.kill_at_checkpoint(checkpoint, *args, "--checkpoint-every", 7)
        done = self.run_mochi("generate", "--resume", checkpoint, "--compute", "bf16")
        self.expect_error(done, 1, 'the checkpoint\'s video has compute "int8", wanted is "bf16"')
        self.generate_ok("--resume", *args)
        resumed = self.content("a.y4m")
        self.generate_ok(*args, "--save-latents", "l.safetensors")
        self.assertEqual(self.content("a.y4m"), resumed)
        self.refuse(2, "--compute has no effect with --from-latents",
                    "generate", "--model-dir", self.model, "--from-latents", "l.safetensors", "--compute", "int8", "--out", "b.y4m")  # fmt: skip

    def write_table(self, name, table):
        (self.folder / name).write_text(json.dumps(table))
        return ("--compute-table", name)

    def test_a_table_names_single_layers(self):
        def video(compute, *overrides):
            table = {"compute": compute, "compute_overrides": list(overrides)}
            return self.make_video(MICRO, "a.y4m", *self.write_table("table.json", table))

        int8 = self.make_video(MICRO, "a.y4m", "--compute", "int8")
        plain = self.make_video(MICRO, "a.y4m")
        self.assertEqual(video("int8"), int8)
        self.assertEqual(video("bf16", {"type": "int8"}), int8)
        self.assertEqual(video("fp8", {"type": "bf16"}, {"layers": "ffn", "type": "int8"}, {"blocks": "0-900", "type": "bf16"}), plain)
        both = {"layers": "ffn", "type": "int8"}, {"layers": "attention", "type": "int8"}
        self.assertEqual(video("bf16", *both), int8)
        parts = {video("bf16", part) for part in (*both, {"blocks": "3", "type": "int8"}, {"blocks": "0-3", "type": "int8"})}
        self.assertEqual(len(parts | {int8, plain}), 6)
        # The recipe has the table itself.
        video("int8", {"blocks": "0-3", "layers": "ffn", "type": "fp8"})
        engine = json.loads((self.folder / "a.y4m.json").read_text())["engine"]
        self.assertEqual(engine["compute"], "int8")
        self.assertEqual(engine["compute_overrides"], [{"blocks": "0-3", "layers": "ffn", "type": "fp8"}])
        original = self.content("a.y4m")
        done = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("b.y4m"), original)

    def test_bad_tables_are_refused(self):
        def refuse(exit_code, line, table, *args):
            flags = self.write_table("t.json", table)
            done = self.run_mochi("generate", "--model-dir", MICRO, "--prompt", "a", "--out", "a.y4m", *flags, *args)
            self.assertEqual(done.returncode, exit_code, done.stderr)
            self.assertEqual(done.stderr.splitlines()[-1], f"mochi: {line}")
            self.assertFalse((self.folder / "a.y4m").exists())

        refuse(1, "'t.json': compute: key is missing", {})
        refuse(1, "'t.json': compute: wanted bf16, int8, fp8, found 'int4'", {"compute": "int4"})
        refuse(1, "'t.json': compute_overrides: wanted a list", {"compute": "int8", "compute_overrides": 3})
        refuse(1, "'t.json': overrides: unknown key, did you mean 'compute_overrides'?", {"compute": "int8", "overrides": []})
        for blocks in ("", "x", "3-", "5-2", "-1", "1-2-3", "99999999999"):
            refuse(1, f"'t.json': compute_overrides: blocks: wanted a range of blocks such as \"0-5\" or \"3\", found '{blocks}'",
                   {"compute": "int8", "compute_overrides": [{"blocks": blocks, "type": "bf16"}]})  # fmt: skip
        refuse(1, "'t.json': compute_overrides: layers: wanted attention, ffn, found 'mlp'",
               {"compute": "int8", "compute_overrides": [{"layers": "mlp", "type": "bf16"}]})  # fmt: skip
        refuse(1, "'t.json': compute_overrides: type: key is missing", {"compute": "int8", "compute_overrides": [{}]})
        refuse(2, "--compute: wanted blocks from 0 to 7, found 8",
               {"compute": "int8", "compute_overrides": [{"blocks": "8-9", "type": "bf16"}]})  # fmt: skip
        refuse(2, "--compute has no effect with --compute-table", {"compute": "int8"}, "--compute", "fp8")
        self.refuse(1, "cannot open 'none.json': No such file or folder", "generate", "--compute-table", "none.json", "--out", "a.y4m")

    def test_unknown_types_are_refused(self):
        self.refuse(2, "--compute: wanted 'auto', 'bf16', 'int8' or 'fp8', found 'int4'",
                    "generate", "--prompt", "a", "--compute", "int4", "--out", "a.y4m")  # fmt: skip
        self.refuse(2, "--compute: works with 'dit', 'sparse' and 'video' only", "bench", "vae", "--compute", "int8")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
