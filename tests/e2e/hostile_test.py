"""Bad input, as the user sees it: one line that says what is wrong, an exit status that is not 0,
and nothing left behind.

Usage: hostile_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import re
import shutil
import unittest

from support import (
    MOCHI,
    PROMPT,
    ProgramTest,
    read_safetensors,
    write_latents,
    write_safetensors,
)

GENERATE = ["generate", "--device", "cpu", "--prompt", PROMPT, "--out", "a.y4m", "--model-dir"]


def as_argument(raw):
    """Bytes that are no text, as subprocess passes them on unchanged."""
    return raw.decode(errors="surrogateescape")


class HostileTest(ProgramTest):
    def copy_model(self):
        model = self.folder / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(self.model, model)
        return model

    # ---- files of weights ----

    def damaged_files(self):
        """Name → header, data, and what is said of the file; damage that its header shows."""
        header, data = read_safetensors(self.model / "dit.safetensors")
        by_offset = sorted(header, key=lambda name: header[name]["data_offsets"])
        name, last = by_offset[0], by_offset[-1]
        begin, end = header[last]["data_offsets"]
        sizes = ", ".join(map(str, header[name]["shape"]))
        num_bytes = header[name]["data_offsets"][1]

        def change(tensor, **fields):
            return header | {tensor: header[tensor] | fields}

        text = json.dumps(header).encode()
        twice = b'{"%s": %s, ' % (name.encode(), json.dumps(header[name]).encode()) + text[1:]
        outside = f"outside of the {len(data)} data bytes: the file is cut short or damaged"
        return {
            "truncated": (
                header,
                data[:-1],
                f": tensor '{last}': data_offsets [{begin}, {end}] outside "
                f"of the {len(data) - 1} data bytes: the file is cut short or damaged",
            ),
            "overlapping": (
                change(last, data_offsets=[begin - 4, end - 4]),
                data,
                f": tensor '{last}' overlaps another one at data byte {begin - 4}",
            ),
            "gap": (
                {key: header[key] for key in header if key != name},
                data,
                f": data bytes 0 to {num_bytes} belong to no tensor",
            ),
            "huge offset": (
                change(name, data_offsets=[0, 2**62]),
                data,
                f": tensor '{name}': data_offsets [0, {2**62}] {outside}",
            ),
            "offset above 63 bits": (
                change(name, data_offsets=[0, 2**64 - 1]),
                data,
                f": {name}.data_offsets[1]: wanted an integer, found {2**64 - 1}",
            ),
            "negative offset": (
                change(name, data_offsets=[-8, 0]),
                data,
                f": tensor '{name}': negative data_offsets [-8, 0]",
            ),
            "unknown dtype": (
                change(name, dtype="F37"),
                data,
                f": tensor '{name}': unknown dtype 'F37'",
            ),
            "dtype of other size": (
                change(name, dtype="F16"),
                data,
                f": tensor '{name}': F16 [{sizes}] "
                f"takes {num_bytes // 2} bytes, but data_offsets hold {num_bytes}",
            ),
            "shape of other size": (
                change(name, shape=[1]),
                data,
                f": tensor '{name}': F32 [1] takes 4 bytes, but data_offsets hold {num_bytes}",
            ),
            "overflowing shape": (
                change(name, shape=[2**62, 8]),
                data,
                f": tensor '{name}' is too large: {2**62} * 8 overflows",
            ),
            "duplicate key": (twice, data, f" (header): duplicate key '{name}'"),
            "line breaks in a name": (
                header | {"a\n\x1b[2J": 1},
                data,
                ": a\\x0a\\x1b[2J: wanted an object, found 1",
            ),
        }

    def test_damaged_weights(self):
        for name, (header, data, line) in self.damaged_files().items():
            with self.subTest(name):
                model = self.copy_model()
                path = model / "dit.safetensors"
                write_safetensors(path, header, data)
                self.refuse(1, f"{path}{line}", *GENERATE, model)
                self.refuse(1, f"{path}{line}", "inspect", path)
                done = self.run_mochi("inspect", model)
                self.assertEqual(
                    (done.returncode, done.stderr), (1, f"mochi: {path}{line}\n")
                )
                self.assertIn("text encoder\n  file: ", done.stdout)

    def test_files_that_are_no_weights(self):
        path = self.folder / "a.safetensors"
        whole = (self.model / "decoder.safetensors").read_bytes()
        header_bytes = int.from_bytes(whole[:8], "little")
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\n" % (b"ab" * 32)
        wanted = "not a safetensors file"
        cases = {
            b"": f"'{path}' is empty, {wanted}",
            whole[:7]: f"'{path}' is a binary file of an unknown kind, {wanted}",
            whole[:100]: f"{path}: truncated: header of {header_bytes} bytes in a file of 100",
            pointer: f"'{path}' is a Git LFS pointer, {wanted}: run 'git lfs pull' in its folder",
            b"<html>Sign in</html>": f"'{path}' is a web page (HTML), {wanted}: "
            "download the file itself",
        }
        for content, line in cases.items():
            with self.subTest(line):
                path.write_bytes(content)
                self.refuse(1, line, "inspect", path)
                self.refuse(1, line, *GENERATE, self.model, "--noise", path)
        path.write_bytes(b"GGUF" + bytes(20))  # may hold weights, but never latents
        self.refuse(1, f"{path}: wanted version 2 or 3 of GGUF, found 0", "inspect", path)
        self.refuse(1, f"'{path}' is a GGUF file, {wanted}", *GENERATE, self.model, "--noise", path)
        path.write_bytes(b"\x02" + bytes(7) + b"{]")
        self.refuse(
            1,
            re.compile(r".*/a\.safetensors \(header\): column 2: not valid JSON: .*"),
            "inspect",
            path,
        )

    def test_weights_of_the_wrong_kind_are_found_before_the_work(self):
        for name in ("dit.safetensors", "text_encoder/model.safetensors", "decoder.safetensors"):
            model = self.copy_model()
            path = model / name
            header, data = read_safetensors(path)
            tensor = next(key for key in header if len(set(header[key]["shape"])) == 2)
            shape = header[tensor]["shape"]
            cases = [
                ({"dtype": "I32"}, "wanted weights, found I32"),
                ({"shape": shape[::-1]}, f"wanted shape {shape}, found {shape[::-1]}"),
                ({"dtype": "U32"}, "cannot work with dtype U32"),
            ]
            for fields, reason in cases:
                with self.subTest(file=name, fields=fields):
                    write_safetensors(path, header | {tensor: header[tensor] | fields}, data)
                    line = f"tensor '{tensor}' in '{path}': {reason}"
                    self.refuse(1, line, *GENERATE, model)

    def test_latents_of_the_wrong_kind(self):
        path = self.folder / "l.safetensors"
        wanted = f"'{path}': tensor 'latents': wanted F32 [1, channels, T, H, W], found"
        cases = [
            ({"sizes": [1, 12, 1, 2, 2], "dtype": "F16"}, f"{wanted} F16 [1, 12, 1, 2, 2]"),
            ({"sizes": [12, 1, 2, 2]}, f"{wanted} F32 [12, 1, 2, 2]"),
            ({"sizes": [1, 12, 0, 2, 2]}, f"{wanted} F32 [1, 12, 0, 2, 2]"),
            (
                {"sizes": [1, 5, 1, 2, 2]},
                f"'{path}': wanted [12, 1 to 10923, 1 to 2048, 1 to 2048], found [5, 1, 2, 2]",
            ),
            (
                {"sizes": [1, 12, 1, 1, 1], "values": [float("inf")] * 12},
                f"'{path}': tensor 'latents' has values that are not finite",
            ),
            (
                {"sizes": [1, 12, 1, 2, 2], "name": "x"},
                f"'{path}': wanted one tensor 'latents', found 1 tensors ('x', ...)",
            ),
        ]
        args = ["generate", "--model-dir", self.model, "--out", "a.y4m", "--from-latents", path]
        for fields, line in cases:
            with self.subTest(line):
                write_latents(path, **fields)
                self.refuse(1, line, *args)

    # ---- the rest of the model ----

    def test_wrong_configs(self):
        config = json.loads((self.model / "config.json").read_text())

        def change(section, **fields):
            return config | {section: config[section] | fields}

        cases = [
            (change("dit", dept=2), "dit.dept: unknown key, did you mean 'depth'?"),
            (
                config | {"textencoder": {}},
                "textencoder: unknown key, did you mean 'text_encoder'?",
            ),
            (change("dit", depth="2"), 'dit.depth: wanted an integer, found "2"'),
            (change("dit", depth=0), "dit.depth: wanted 1 to 1024, found 0"),
            (change("dit", depth=1 << 24), "dit.depth: wanted 1 to 1024, found 16777216"),
            (
                change("text_encoder", num_layers=1 << 24),
                "text_encoder.num_layers: wanted 1 to 1024, found 16777216",
            ),
            (change("dit", patch_size=1 << 20), "dit.patch_size: wanted 1 to 64, found 1048576"),
            (
                change("vae", decoder_channels=[16, 12, 8]),
                "vae.decoder_channels: wanted 4 values, found 3",
            ),
            (
                change("vae", temporal_factors=[16] * 20),
                "vae.temporal_factors: wanted 1 to 8 values, found 20",
            ),
            (change("generation", fps=0), "generation.fps: wanted 1 to 1000, found 0"),
            ({"dit": {}}, "model_type: key is missing"),
            (
                config | {"trained_on": {"words": "ball"}},
                'trained_on.words: wanted a list, found "ball"',
            ),
            ([], "wanted an object, found []"),
        ]
        model = self.copy_model()
        path = model / "config.json"
        for changed, line in cases:
            with self.subTest(line):
                path.write_text(json.dumps(changed))
                self.refuse(1, f"{path}: {line}", *GENERATE, model)
                self.refuse(1, f"{path}: {line}", "inspect", model)
        path.write_text('{"model_type": "mochi", "dit": {}, "dit": {}}')
        self.refuse(1, f"{path}: duplicate key 'dit'", *GENERATE, model)
        path.write_text('{"model_type": "mochi",\n')
        line = r".*/config\.json: line 2, column 1: not valid JSON: .*"
        self.refuse(1, re.compile(line), *GENERATE, model)

    def test_tokenizers(self):
        model = self.copy_model()
        path = model / "tokenizer" / "spiece.model"
        whole = path.read_bytes()
        kinds = {
            b"": "empty",
            b"no tokenizer at all": 'a text file ("no tokenizer at all")',
            whole[: len(whole) // 2]: "a binary file of an unknown kind",
        }
        for content, kind in kinds.items():
            with self.subTest(kind):
                path.write_bytes(content)
                line = f"'{path}' is {kind}, not a complete SentencePiece model"
                self.refuse(1, line, *GENERATE, model)
        path.unlink()
        line = (
            "no tokenizer found: looked for tokenizer/spiece.model or tokenizer.json in "
            f"'{model}', and in its folders of diffusers' and ComfyUI's names; to download it: "
            f"mochi download mochi-1-preview {model} --part tokenizer"
        )
        self.refuse(1, line, *GENERATE, model)

    def test_model_folders(self):
        name = "m" * 300
        download = "to download it: mochi download mochi-1-preview"
        self.refuse(1, f"model folder 'none' does not exist; {download} none", *GENERATE, "none")
        self.refuse(1, f"model folder '{MOCHI}' is not a folder", *GENERATE, MOCHI)
        self.refuse(1, f"model folder '{name}' does not exist; {download} {name}", *GENERATE, name)
        self.refuse(1, "cannot open 'none': no such file or folder", "inspect", "none")
        self.refuse(1, f"'{name}': File name too long", "inspect", name)

    def test_files_that_people_have_in_model_folders(self):
        model = self.copy_model()
        (model / "._dit.safetensors").write_bytes(b"\0\5\x16\7" + bytes(200))
        (model / "transformer").mkdir()
        index = model / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text('{"weight_map": {"patch_embed.proj.weight": "m-00001-of-00005"}}')
        self.generate_ok("--num-steps", 1, "--out", "plain.y4m")
        done = self.run_mochi(*GENERATE, model, "--num-steps", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("a.y4m"), self.content("plain.y4m"))
        path = model / "dit.safetensors"
        path.unlink()
        path.symlink_to("../blobs/0123")
        line = f"'{path}' is a link to '../blobs/0123', which does not exist"
        self.refuse(1, line, *GENERATE, model)
        path.unlink()
        index.unlink()
        (model / "decoder.safetensors").unlink()
        line = (
            f"model folder '{model}' lacks the transformer (dit.safetensors, or diffusers' "
            "folder transformer), and the video decoder (decoder.safetensors, or diffusers' "
            f"folder vae); to download it: mochi download mochi-1-preview {model} --part transformer --part decoder"
        )
        self.refuse(1, line, *GENERATE, model)

    def test_weights_that_are_not_finite(self):
        model = self.copy_model()
        path = model / "dit.safetensors"
        header, data = read_safetensors(path)
        name = "blocks.1.attn.qkv_x.weight"
        begin = header[name]["data_offsets"][0]
        write_safetensors(path, header, data[:begin] + b"\0\0\xc0\x7f" + data[begin + 4 :])
        line = f"tensor '{name}' in '{path}': has values that are not finite (NaN or infinite)"
        done = self.run_mochi(*GENERATE, model)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"mochi: {line}\n", done.stderr)
        self.assertFalse((self.folder / "a.y4m").exists())

    # ---- requests ----

    def test_sizes(self):
        sizes = "a multiple of 16"
        cases = [
            (
                ["--num-frames", 42],
                "--num-frames: wanted 6·k + 1, found 42; the nearest are 37 and 43",
            ),
            (["--num-frames", 0], "--num-frames: wanted 6·k + 1 from 1 to 65533, found 0"),
            (["--num-frames", -5], "--num-frames: wanted 6·k + 1 from 1 to 65533, found -5"),
            (["--width", 100], f"--width: wanted {sizes}, found 100; the nearest are 96 and 112"),
            (["--width", 8], f"--width: wanted {sizes} from 16 to 16384, found 8"),
            (
                ["--height", 1080],
                f"--height: wanted {sizes}, found 1080; the nearest are 1072 and 1088",
            ),
            (["--height", 1 << 20], f"--height: wanted {sizes} from 16 to 16384, found 1048576"),
        ]
        for args, line in cases:
            with self.subTest(args):
                self.refuse(2, line, *GENERATE, self.model, *args)

    def test_prompts_that_are_no_text(self):
        for raw, byte in (
            (b"\xff", 0),
            (b"a red \xc3", 6),
            (b"\xed\xa0\x80", 0),
            (b"x\xf5\x80", 1),
        ):
            with self.subTest(raw):
                for flag in ("--prompt", "--negative-prompt"):
                    line = f"{flag}: not valid UTF-8 at byte {byte}"
                    args = ["generate", "--model-dir", self.model, "--out", "a.y4m"]
                    other = [] if flag == "--prompt" else ["--prompt", PROMPT]
                    self.refuse(2, line, *args, *other, flag, as_argument(raw))

    def test_prompts_that_are_unusual(self):
        videos = {}
        prompts = {
            "empty": "",
            "blank": " \n\t",
            "emoji": "🔴 ⟶ 🟦",
            "zwj": "👩‍🚀" * 50,
            "long": "red " * 10_000,
            "half": "red " * 5_000,
            "control": "a\x01\x1b[2Jb",
        }
        for name, prompt in prompts.items():
            with self.subTest(name):
                out = f"{name}.y4m"
                done = self.generate("--quiet", "--num-steps", 1, "--out", out, prompt=prompt)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
                videos[name] = (self.folder / out).read_bytes()
        self.assertEqual(videos["long"], videos["half"])  # both cut to the model's 32 tokens
        self.assertNotEqual(videos["long"], videos["empty"])
        self.assertNotEqual(videos["emoji"], videos["empty"])

    def test_unknown_flags_and_commands(self):
        belongs = "is a flag of 'mochi inspect': write it after the command"
        cases = [
            (["generate", "--promt", "x"], "unknown flag '--promt', did you mean '--prompt'?"),
            (["generate", "--wdth=64"], "unknown flag '--wdth', did you mean '--width'?"),
            (
                ["generate", "--prompt", "x", "--num_stepps", "4"],
                "unknown flag '--num-stepps', did you mean '--num-steps'?",
            ),
            (["inspect", "--tensor", "x"], "unknown flag '--tensor', did you mean '--tensors'?"),
            (["version", "--hlep"], "unknown flag '--hlep', did you mean '--help'?"),
            (["--versoin"], "unknown flag '--versoin', did you mean '--version'?"),
            (["--tensors", "inspect", "x"], f"'--tensors' {belongs}"),
            (["--tensors"], f"'--tensors' {belongs}"),
            (["inspct", "x"], "unknown command 'inspct', did you mean 'inspect'?"),
            (
                ["render"],
                "unknown command 'render', known are: generate, serve, decode, encode, convert, inspect, "
                "compare, analyze, tune, bench, download, completion, manual, version",
            ),
            (["generate", "--prompt", "x", "y"], "unexpected argument 'y'"),
            (["version", "now"], "unexpected argument 'now'"),
            (
                ["generate", "--a\nb"],
                r"unknown flag '--a\x0ab'; see 'mochi generate --help'",
            ),
        ]
        for args, line in cases:
            with self.subTest(args):
                self.refuse(2, line, *args)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
