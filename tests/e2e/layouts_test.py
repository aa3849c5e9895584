"""Files as people have them: one model in every layout makes the same video, byte for byte."""

import bisect
import json
import math
import re
import shutil
import struct
import unittest
from pathlib import Path

from support import PROMPT, SPIECE_MODEL, ProgramTest, read_safetensors, write_safetensors

DIT, TEXT, VAE = "model.diffusion_model.", "text_encoders.t5xxl.transformer.", "vae."
TOKENIZER_JSON = Path(SPIECE_MODEL).with_name("tokenizer.json")


def read_tensors(path):
    """Returns {name: (dtype, shape, bytes)}."""
    header, data = read_safetensors(path)
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def write_tensors(path, tensors, metadata=None):
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, header, data)


def below(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def decode_e4m3(code):
    exponent, mantissa = code >> 3 & 15, code & 7
    value = math.ldexp(8 + mantissa, exponent - 10) if exponent else math.ldexp(mantissa, -9)
    return -value if code & 128 else value


# The positive values, in ascending order of their codes.
E4M3 = [decode_e4m3(code) for code in range(127)]


def to_e4m3(value):
    code = min(bisect.bisect_left(E4M3, abs(value)), 126)
    return code | (128 if value < 0 else 0)


def quantise(tensors, encode, decode, dtype, describe):
    """Returns the tensors with matrices in 8 bits, and those that they stand for in F32. The scale
    is a power of two, so that nothing is rounded."""
    stored, meant = {}, {}
    for name, (_, shape, content) in tensors.items():
        if len(shape) != 2 or not name.endswith(".weight") or "relative" in name or "shared" in name:
            stored[name] = meant[name] = tensors[name]
            continue
        layer = name.removesuffix(".weight")
        values = struct.unpack(f"<{len(content) // 4}f", content)
        scale = math.ldexp(1.0, -6)
        codes = bytes(encode(value / scale) & 255 for value in values)
        stored[name] = (dtype, shape, codes)
        stored.update(describe(layer, struct.pack("<f", scale)))
        rounded = struct.pack(f"<{len(values)}f", *(decode(code) * scale for code in codes))
        meant[name] = ("F32", shape, rounded)
    return stored, meant


def old_spelling(layer, scale):
    return {f"{layer}.scale_weight": ("F32", [], scale), f"{layer}.scale_input": ("F32", [], scale)}


def new_spelling(name):
    text = json.dumps({"format": name}).encode()

    def describe(layer, scale):
        return {
            f"{layer}.comfy_quant": ("U8", [len(text)], text),
            f"{layer}.weight_scale": ("F32", [], scale),
        }

    return describe


class LayoutsTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dit = read_tensors(cls.model / "dit.safetensors")
        cls.text = read_tensors(cls.model / "text_encoder" / "model.safetensors")
        cls.decoder = read_tensors(cls.model / "decoder.safetensors")
        cls.encoder = read_tensors(cls.model / "encoder.safetensors")
        cls.vae = below("decoder.", cls.decoder) | below("encoder.", cls.encoder)

    def new_model(self, name="m", tokenizer="spiece.model"):
        """A model folder without networks."""
        model = self.folder / name
        model.mkdir()
        shutil.copy(self.model / "config.json", model)
        shutil.copy(SPIECE_MODEL if tokenizer == "spiece.model" else TOKENIZER_JSON, model / tokenizer)
        return model

    def video(self, *args):
        out = self.folder / "out.y4m"
        done = self.run_mochi("generate", "--prompt", PROMPT, "--num-steps", 2, "--out", out, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.sidecar = json.loads(Path(f"{out}.json").read_text())
        content = out.read_bytes()
        out.unlink()
        return content

    def video_of_folder(self, model, *args):
        return self.video("--model-dir", model, *args)

    def write_comfy(self, base, dit=None, text=None):
        write_tensors(base / "diffusion_models" / "mochi.safetensors", dit or self.dit)
        write_tensors(base / "text_encoders" / "t5xxl_fp16.safetensors", text or self.text)
        write_tensors(base / "vae" / "mochi_vae.safetensors", self.vae)

    def write_all_in_one(self, path, dit=None, text=None, metadata=None):
        everything = below(DIT, dit or self.dit) | below(TEXT, text or self.text)
        write_tensors(path, everything | below(VAE, self.vae), metadata)

    def test_folders_of_comfyui(self):
        wanted = self.video_of_folder(self.model)
        for base in ("", "models"):
            with self.subTest(base):
                model = self.new_model(f"m{base}")
                self.write_comfy(model / base)
                # Other models' files in these folders.
                (model / base / "vae" / "folder.safetensors").mkdir()
                (model / base / "diffusion_models" / "wan.safetensors").write_text("damaged")
                write_tensors(
                    model / base / "checkpoints" / "sdxl.safetensors",
                    {"model.diffusion_model.input_blocks.0.0.weight": ("F32", [1], bytes(4))},
                )
                self.assertEqual(self.video_of_folder(model), wanted)

    def test_one_file(self):
        wanted = self.video_of_folder(self.model)
        model = self.new_model()
        self.write_all_in_one(model / "checkpoints" / "mochi.safetensors")
        self.assertEqual(self.video_of_folder(model), wanted)
        out = self.run_mochi("inspect", model / "checkpoints" / "mochi.safetensors")
        self.assertEqual(out.returncode, 0, out.stdout)
        for prefix in (DIT, TEXT, "vae.decoder.", "vae.encoder."):
            self.assertIn(f"layout: ComfyUI, below '{prefix}'", out.stdout)
        # One file may also be each of the networks.
        path = model / "checkpoints" / "mochi.safetensors"
        other = self.new_model("other")
        parts = ("--dit", path, "--text-encoder", path, "--vae", path)
        self.assertEqual(self.video_of_folder(other, *parts), wanted)

    def test_weights_with_scales(self):
        kinds = {
            "old fp8": (to_e4m3, decode_e4m3, "F8_E4M3", old_spelling),
            "new fp8": (to_e4m3, decode_e4m3, "F8_E4M3", new_spelling("float8_e4m3fn")),
            "int8": (
                lambda value: max(-127, min(127, round(value))),
                lambda code: code - 256 if code > 127 else code,
                "I8",
                new_spelling("int8_tensorwise"),
            ),
        }
        for kind, how in kinds.items():
            with self.subTest(kind):
                stored_dit, dit = quantise(self.dit, *how)
                stored_text, text = quantise(self.text, *how)
                plain, scaled = self.new_model(f"p {kind}"), self.new_model(f"s {kind}")
                self.write_comfy(plain, dit, text)
                wanted = self.video_of_folder(plain)
                if kind == "old fp8":
                    marker = ("F8_E4M3", [0], b"")
                    stored_dit["scaled_fp8"] = stored_text["scaled_fp8"] = marker
                self.write_all_in_one(scaled / "mochi.safetensors", stored_dit, stored_text)
                self.assertEqual(self.video_of_folder(scaled), wanted)
                args = ("--prompt", PROMPT, "--num-steps", 1, "--out", "v.y4m", "--verbose")
                told = self.run_mochi("generate", "--model-dir", scaled, *args).stderr
                lines = [line for line in told.splitlines() if "scales of inputs are not used" in line]
                self.assertEqual(len(lines), 2 if kind == "old fp8" else 0, told)
                out = self.run_mochi("inspect", scaled).stdout
                self.assertIn(f"below '{DIT}'; 8-bit weights with scales", out)
                self.assertEqual("scales of inputs are not used" in out, kind == "old fp8")

    def test_formats_of_quantised_weights_that_are_not_read(self):
        model = self.new_model()
        for name, tensor in (
            ("nvfp4", ("blocks.0.attn.qkv_x.comfy_quant", b'{"format": "nvfp4"}')),
            ("int8_convrot", ("blocks.0.attn.qkv_x.comfy_quant", b'{"format": "int8_convrot"}')),
            ("bitsandbytes", ("blocks.0.attn.qkv_x.weight.absmax", b"1234")),
        ):
            with self.subTest(name):
                extra = {tensor[0]: ("U8", [len(tensor[1])], tensor[1])}
                self.write_comfy(model, self.dit | extra)
                line = re.compile(rf".*mochi.safetensors'.*{name}.*")
                self.refuse(1, line, "generate", "--model-dir", model, "--out", "a.y4m")

    def test_tokenizer_json(self):
        wanted = self.video_of_folder(self.model)
        model = self.new_model(tokenizer="tokenizer.json")
        self.write_comfy(model)
        self.assertEqual(self.video_of_folder(model), wanted)
        (model / "tokenizer.json").rename(self.folder / "t.json")
        line = (
            "no tokenizer found: looked for tokenizer/spiece.model or tokenizer.json in "
            f"'{model}', and in its folders of diffusers' and ComfyUI's names; to download it: "
            f"mochi download mochi-1-preview {model} --part tokenizer"
        )
        self.refuse(1, line, "generate", "--model-dir", model, "--out", "a.y4m")
        args = ("--tokenizer", self.folder / "t.json")
        self.assertEqual(self.video_of_folder(model, *args), wanted)

    def test_paths_of_the_networks(self):
        wanted = self.video_of_folder(self.model)
        paths = {
            "--dit": self.model / "dit.safetensors",
            "--text-encoder": self.model / "text_encoder",
            "--tokenizer": SPIECE_MODEL,
        }
        write_tensors(self.folder / "vae.safetensors", self.vae)
        paths["--vae"] = self.folder / "vae.safetensors"
        args = [word for pair in paths.items() for word in pair]
        self.assertEqual(self.video(*args), wanted)
        self.assertEqual(self.sidecar["model"]["dir"], "")
        self.assertEqual(self.sidecar["model"]["vae"], str(paths["--vae"]))
        # Each replaces the network of a folder.
        model = self.new_model()
        self.write_comfy(model)
        (model / "vae" / "mochi_vae.safetensors").write_text("damaged")
        self.assertEqual(self.video_of_folder(model, "--vae", paths["--vae"]), wanted)
        other = {name: (d, s, bytes(len(c))) for name, (d, s, c) in self.dit.items()}
        write_tensors(self.folder / "zero.safetensors", other)
        changed = self.video_of_folder(self.model, "--dit", self.folder / "zero.safetensors")
        self.assertNotEqual(changed, wanted)

    def test_a_video_is_made_again_with_its_paths(self):
        path = self.folder / "vae.safetensors"
        write_tensors(path, self.vae)
        args = ("--vae", "vae.safetensors", "--prompt", PROMPT, "--num-steps", 2)
        self.generate_ok(*args, "--out", "a.y4m", prompt=None)
        again = self.run_mochi("generate", "--from-json", "a.y4m.json", "--out", "b.y4m")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("b.y4m"))
        names = [file["name"] for file in json.loads(self.content("b.y4m.json"))["model"]["files"]]
        self.assertIn(str(path), names)
        self.assertIn("dit.safetensors", names)
        write_tensors(path, self.vae | {"more": ("F32", [1], bytes(4))})
        line = re.compile(rf".*the model file '{path}' has changed since.*")
        self.refuse(1, line, "generate", "--from-json", "a.y4m.json", "--out", "c.y4m")

    def test_paths_that_are_wrong(self):
        text = self.model / "text_encoder" / "model.safetensors"
        (self.folder / "x.safetensors").write_text("no weights")
        (self.folder / "empty").mkdir()
        for value, line in {
            "none": "--dit: cannot open 'none': no such file or folder",
            "empty": "--dit: 'empty' holds no transformer",
            text: f"--dit: '{text}' holds no transformer, but the text encoder",
        }.items():
            with self.subTest(value):
                self.refuse(
                    2, line, "generate", "--model-dir", self.model, "--dit", value, "--out", "a.y4m"
                )
        damaged = ("--vae", "x.safetensors", "--out", "a.y4m")
        line = re.compile("--vae: 'x.safetensors' is a text file.*")
        self.refuse(2, line, "generate", "--model-dir", self.model, *damaged)
        line = "--tokenizer: wanted a file, found a folder 'empty'"
        args = ("--tokenizer", "empty", "--out", "a.y4m")
        self.refuse(2, line, "generate", "--model-dir", self.model, *args)
        line = "--text-encoder: is needed, or a model folder that has the text encoder"
        args = ("--dit", self.model / "dit.safetensors", "--out", "a.y4m")
        self.refuse(2, line, "generate", *args)
        line = "--vae: has no effect with random weights"
        args = ("--vae", self.model / "decoder.safetensors", "--random-weights", "config")
        self.refuse(2, line, "generate", "--model-dir", self.model, *args, "--out", "a.y4m")

    def test_two_copies(self):
        model = self.new_model()
        self.write_comfy(model)
        write_tensors(model / "unet" / "other.safetensors", self.dit)
        line = re.compile(
            "there are two files of the transformer: '.*mochi.safetensors' and "
            "'.*other.safetensors'; keep one of them, or choose one by its path"
        )
        self.refuse(1, line, "generate", "--model-dir", model, "--out", "a.y4m")
        chosen = ("--dit", model / "unet" / "other.safetensors")
        self.assertEqual(self.video_of_folder(model, *chosen), self.video_of_folder(self.model))

    def test_inspect_says_what_is_missing(self):
        (self.folder / "empty").mkdir()
        done = self.run_mochi("inspect", "empty")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not found: text encoder, transformer, video decoder, video", done.stdout)
        self.assertIn("to download it: mochi download mochi-1-preview empty\n", done.stdout)
        model = self.new_model()
        self.write_comfy(model)
        (model / "vae" / "mochi_vae.safetensors").unlink()
        done = self.run_mochi("inspect", model)
        self.assertIn("not found: video decoder, video encoder (only 'mochi encode' needs the video encoder)\n", done.stdout)
        self.assertNotIn("cannot be used", done.stdout)
        (model / "vae" / "other.safetensors").write_text("damaged")
        done = self.run_mochi("inspect", model)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("a file that may be the video decoder cannot be used: '", done.stdout)
        command = f"mochi download mochi-1-preview {model} --part decoder"
        self.assertIn(f"to download it: {command}\n", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
