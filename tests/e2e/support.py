"""What the tests of the program share: running it, its tiny model, the files that it reads.

A test is called as TEST MOCHI MAKE_TINY_MODEL SPIECE_MODEL.
"""

import json
import math
import re
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
NUM_FRAMES = 13  # of the tiny model's default video, 64x48
TIMEOUT_S = 120  # sanitizers and other work on the machine make it slow


def read_y4m(path):
    """The header's words and the number of frames."""
    content = path.read_bytes()
    header, rest = content.split(b"\n", 1)
    return header.split(), rest.count(b"FRAME\n")


def read_safetensors(path):
    """Returns the header and the bytes after it."""
    content = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + header_bytes]), content[8 + header_bytes :]


def write_safetensors(path, header, data):
    """The header is an object, or the bytes of one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_latents(path, sizes, dtype="F32", name="latents", values=None):
    count = math.prod(sizes)
    item_bytes = {"F32": 4, "F16": 2}[dtype]
    data = struct.pack(f"<{count}f", *(values or [0.5] * count))[: count * item_bytes]
    entry = {"dtype": dtype, "shape": sizes, "data_offsets": [0, len(data)]}
    write_safetensors(path, {name: entry}, data)


def write_constants(path, tensors, metadata=None):
    """Tensors by their names, each as its sizes and the value of all its elements."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (sizes, value) in tensors.items():
        count = math.prod(sizes)
        begin = len(data)
        data += struct.pack(f"<{count}f", *[value] * count)
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [begin, len(data)]}
    write_safetensors(path, header, data)


def write_lora(path, width=32, down=".lora_A", up=".lora_B", metadata=None,
               key="blocks.0.attn.qkv_x"):
    """Of the tiny model's first block, strong enough to change the video."""
    tensors = {key + down: ([2, width], 0.25), key + up: ([3 * width, 2], 1.0)}
    write_constants(path, tensors, metadata)


def read_latents(path):
    header, data = read_safetensors(path)
    return header["latents"], data


class ProgramTest(unittest.TestCase):
    """One model for all tests of a class, a separate folder for each test."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="mochi-e2e-"))
        cls.model = cls.shared / "model"
        subprocess.run([MAKE_TINY_MODEL, cls.model, SPIECE_MODEL], check=True)

    @classmethod
    def tearDownClass(cls):
        for _ in range(50):  # the child of a killed program may write for a moment longer
            try:
                return shutil.rmtree(cls.shared)
            except OSError:
                time.sleep(0.1)
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

    def content(self, name):
        return (self.folder / name).read_bytes()

    def start(self, *args):
        """`mochi generate`, running."""
        command = [MOCHI, "generate", "--model-dir", str(self.model), *map(str, args)]
        return subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True)

    def kill_at_checkpoint(self, checkpoint, *args):
        """Ends a run the hard way as soon as the file is there."""
        child = self.start("--prompt", PROMPT, *args)
        begin = time.monotonic()
        while not checkpoint.exists():
            self.assertLess(time.monotonic() - begin, TIMEOUT_S)
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, -signal.SIGKILL)

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

    def expect_line(self, done, exit_code, line):
        """Exactly this line on stderr (a string, or a compiled pattern), nothing on stdout."""
        self.assertEqual(done.returncode, exit_code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        said = done.stderr.removesuffix("\n")
        if isinstance(line, re.Pattern):
            self.assertRegex(said, re.compile(f"^mochi: {line.pattern}$"))
        else:
            self.assertEqual(said, f"mochi: {line}")

    def refuse(self, exit_code, line, *args):
        """The program ends like that and changes nothing in its folder."""
        before = self.entries()
        self.expect_line(self.run_mochi(*args), exit_code, line)
        self.assertEqual(self.entries(), before)
