"""`mochi convert`: what other precisions change in a video, which files it writes, what it refuses."""

import json
import shutil
import struct
import unittest
from pathlib import Path

from support import ProgramTest, read_safetensors, write_lora, write_safetensors

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "models/micro"
GOLDEN_T5 = ROOT / "tests/golden/gguf/t5_q8_0.gguf"
SMALL = ("--width", 160, "--height", 96, "--num-frames", 7, "--num-steps", 6, "--dtype", "fp32")


class Convert(ProgramTest):
    def convert(self, source, output, precision, *args):
        return self.run_mochi("convert", source, output, "--to", precision, *args)

    def convert_ok(self, source, output, precision, *args):
        done = self.convert(source, output, precision, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def copy_model(self, name, model, *left_out):
        """A copy of a model folder without some of its files."""
        folder = self.folder / name
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*left_out))
        return folder

    def make_video(self, model, out, *args):
        done = self.run_mochi("generate", "--model-dir", model, "--prompt", "a large green ring moves to the left on a dark background",
                              "--out", out, "--seed", 7, *args)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.content(out)

    def psnr(self, video, reference):
        done = self.run_mochi("compare", video, reference, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["psnr"]

    def test_quantised_pairs_make_nearly_the_same_video(self):
        self.make_video(MICRO, "original.y4m", *SMALL)
        # PSNR in dB; a little less than measured.
        for precision, ending, least in (("fp8", "safetensors", 26), ("q8_0", "gguf", 40), ("q4_k", "gguf", 20)):
            model = self.copy_model(precision, MICRO, "dit.safetensors", "text_encoder")
            self.convert_ok(MICRO, model / f"a.{ending}", precision)
            self.convert_ok(MICRO, model / f"t5.{ending}", precision, "--network", "text-encoder")
            self.make_video(model, f"{precision}.y4m", *SMALL)
            psnr = self.psnr(f"{precision}.y4m", "original.y4m")
            print(f"{precision}: {psnr:.1f} dB")
            self.assertGreater(psnr, least, precision)
            self.assertLess(psnr, 90, precision)

    def test_a_text_encoder_by_another_program_equals_ours(self):
        videos = []
        for name in ("ours", "theirs"):
            model = self.copy_model(name, MICRO, "text_encoder")
            if name == "ours":
                self.convert_ok(MICRO, model / "t5.gguf", "q8_0", "--network", "text-encoder")
            else:
                shutil.copy(GOLDEN_T5, model)
            videos.append(self.make_video(model, f"{name}.y4m", *SMALL))
        self.assertEqual(videos[0], videos[1])

    def test_half_precision_equals_loading_with_it(self):
        original = self.make_video(self.model, "original.y4m", "--dtype", "bf16")
        model = self.copy_model("half", self.model, "dit.safetensors", "model.safetensors", "decoder.safetensors")
        self.convert_ok(self.model, model / "dit.gguf", "bf16")
        self.convert_ok(self.model, model / "t5.safetensors", "bf16", "--network", "text-encoder")
        self.convert_ok(self.model, model / "d.safetensors", "bf16", "--network", "decoder")
        self.assertEqual(self.make_video(model, "half.y4m", "--dtype", "bf16"), original)
        header, _ = read_safetensors(model / "t5.safetensors")
        self.assertEqual(header["shared.weight"]["dtype"], "BF16")
        self.assertEqual(header["encoder.final_layer_norm.weight"]["dtype"], "F32")

    def test_loras_are_added(self):
        write_lora(self.folder / "lora.safetensors")
        lora = ("--lora-path", "lora.safetensors:0.5")
        wanted = self.make_video(self.model, "wanted.y4m", "--dtype", "bf16", *lora)
        model = self.copy_model("styled", self.model, "dit.safetensors")
        self.convert_ok(self.model / "dit.safetensors", model / "dit.safetensors", "bf16", *lora)
        self.assertEqual(self.make_video(model, "styled.y4m", "--dtype", "bf16"), wanted)

    def test_inspect_names_what_is_in_a_file(self):
        self.convert_ok(MICRO, "dit.gguf", "q4_k")
        done = self.run_mochi("inspect", "dit.gguf", "--tensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("transformer\n  file: dit.gguf\n", done.stdout)
        self.assertIn("depth: 8", done.stdout)
        self.assertIn("blocks.0.attn.qkv_x.weight Q4_K [768, 256]", done.stdout)
        self.assertIn("blocks.0.mod_x.weight Q8_0 [1024, 256]", done.stdout)
        self.assertIn("blocks.0.attn.proj_x.bias BF16 [256]", done.stdout)
        self.convert_ok(MICRO, "t5.gguf", "q8_0", "--network", "text-encoder")
        done = self.run_mochi("inspect", "t5.gguf", "--tensors")
        self.assertIn("text encoder\n  file: t5.gguf\n  layout: llama.cpp\n", done.stdout)
        self.assertIn("enc.blk.2.ffn_up.weight Q8_0 [256, 128]", done.stdout)

    def test_blocks_that_have_the_precision_are_copied(self):
        self.convert_ok(MICRO, "a.gguf", "q4_k")
        self.convert_ok("a.gguf", "b.gguf", "q4_k")
        self.assertEqual(self.content("a.gguf"), self.content("b.gguf"))

    def test_no_file_that_is_read_is_replaced(self):
        model = self.copy_model("model", self.model)
        write_lora(self.folder / "lora.safetensors")
        for output, args in (
            (self.folder / "lora.safetensors", ("--lora-path", self.folder / "lora.safetensors:0.5")),
            (model / "decoder.safetensors", ()),
            (next(model.glob("**/model.safetensors")), ()),
        ):
            with self.subTest(output):
                line = f"'{output}' is a file to convert: give the output another name"
                self.refuse(1, line, "convert", model, output, "--to", "bf16", *args)

    def test_values_that_are_not_finite_are_refused(self):
        dit = self.model / "dit.safetensors"
        header, data = read_safetensors(dit)
        for name, value in (("blocks.0.attn.q_norm_x.weight", b"\0\0\xc0\x7f"), ("blocks.0.attn.qkv_x.weight", b"\xff\xff\x7f\x7f")):
            begin = header[name]["data_offsets"][0]
            write_safetensors(self.folder / "bad.safetensors", header, data[:begin] + value + data[begin + 4 :])
            with self.subTest(name):
                self.expect_error(self.convert("bad.safetensors", "out.safetensors", "bf16", "--quiet"), 1, f"tensor '{name}' in 'bad.safetensors': has values")
        self.assertFalse((self.folder / "out.safetensors").exists())

    def test_a_converted_file_is_converted_again(self):
        self.convert_ok(MICRO, "a.gguf", "q8_0")
        self.convert_ok("a.gguf", "b.gguf", "q8_0")
        done = self.run_mochi("inspect", "b.gguf")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.convert_ok("a.gguf", "c.safetensors", "fp8")
        header, _ = read_safetensors(self.folder / "c.safetensors")
        self.assertEqual(header["blocks.0.attn.qkv_x.weight"]["dtype"], "F8_E4M3")
        self.assertEqual(header["blocks.0.attn.qkv_x.weight_scale"]["shape"], [768])

    def test_what_does_not_fit_is_refused(self):
        dit = self.model / "dit.safetensors"
        for args, exit_code, line in (
            ((dit, "a.bin", "bf16"), 2, "--to: wanted an output that ends in .safetensors or .gguf, found 'a.bin'"),
            ((dit, "a.gguf", "fp8"), 2, "--to: fp8 is written to .safetensors files, found 'a.gguf'"),
            ((dit, "a.safetensors", "q8_0"), 2, "--to: q8_0 is written to .gguf files, found 'a.safetensors'"),
            ((dit, "a.gguf", "q3_k"), 2, "--to: wanted 'bf16', 'fp16', 'fp8', 'q8_0', 'q6_k', 'q5_k', 'q4_k' or 'q4_0', found 'q3_k'"),
            ((dit, dit, "bf16"), 1, f"'{dit}' is a file to convert: give the output another name"),
            ((dit, "none/a.gguf", "q8_0"), 1, "cannot write 'none/a.gguf': folder 'none' does not exist"),
            (("none", "a.gguf", "q8_0"), 1, "cannot open 'none': no such file or folder"),
            ((dit, "a.gguf", "q8_0", "--network", "decoder"), 1, f"'{dit}' holds no video decoder of a Mochi model"),
            ((self.model / "decoder.safetensors", "a.gguf", "q8_0"), 2,
             "--to: the video decoder is converted to bf16 or fp16 only, found q8_0"),
            ((self.model, "a.gguf", "q8_0", "--network", "text-encoder", "--lora-path", dit), 2,
             "--lora-path: a LoRA changes the transformer, not the text encoder"),
        ):  # fmt: skip
            with self.subTest(line):
                source, output, precision, *more = args
                self.refuse(exit_code, line, "convert", source, output, "--to", precision, *more)

    def test_damaged_files_are_refused(self):
        self.convert_ok(MICRO, "whole.gguf", "q8_0")
        whole = self.content("whole.gguf")
        damaged = {
            "cut": (whole[:-100], "the file is cut short or damaged"),
            "head": (whole[:1000], "truncated or damaged"),
            "version": (whole[:4] + struct.pack("<I", 9) + whole[8:], "wanted version 2 or 3 of GGUF, found 9"),
            "text": (b"hello", "is a text file"),
        }
        for name, (content, message) in damaged.items():
            (self.folder / f"{name}.gguf").write_bytes(content)
            for args in (("inspect", f"{name}.gguf"), ("convert", f"{name}.gguf", "x.gguf", "--to", "q8_0")):
                with self.subTest(name, command=args[0]):
                    self.expect_error(self.run_mochi(*args), 1, f"{name}.gguf", message)
        self.assertFalse((self.folder / "x.gguf").exists())


if __name__ == "__main__":
    unittest.main(argv=[__file__])
