"""Kills the program at random moments of sampling, decoding and writing, and resumes: the video is the
same, byte for byte, and no half-written file is ever in place.

Usage: kill_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL [NUM_KILLS [SEED]]
"""

import collections
import json
import random
import re
import signal
import subprocess
import sys
import time
import unittest

from support import TIMEOUT_S, ProgramTest

NUM_KILLS = int(sys.argv[4]) if len(sys.argv) > 4 else 10
SEED = int(sys.argv[5]) if len(sys.argv) > 5 else random.randrange(1 << 32)
SIZE = ("--width", 128, "--height", 96, "--num-frames", 19, "--num-steps", 12, "--seed", 7)
SPARSE = """attn: {top_keys: 0.3, random_keys: 0.05, first_n_dense_layers: 0, full_step_every: 4,
  mbm: 64, counts_multiple_of: 16, delta: half_merge}
"""
# Each is killed in turn.
KINDS = [
    ("dense.y4m", []),
    ("sparse.mp4", ["--chipmunk-config", "sparse.yml"]),
    ("skipped.y4m", ["--skip", "fast"]),
    ("frames", ["--save-latents", "latents.safetensors"]),
]


class KillTest(ProgramTest):
    def command(self, name, flags):
        return ["--prompt", "a ball", *SIZE, *flags, "--checkpoint-every", 1, "--out", name]

    def result(self, name):
        """The bytes of the video, a file or a folder of frames; None where there is none."""
        path = self.folder / name
        if path.is_dir():
            return {frame.name: frame.read_bytes() for frame in sorted(path.glob("*.png"))}
        return path.read_bytes() if path.exists() else None

    def reference(self, name, flags):
        """The video of a run that nobody interrupts, and how long it takes."""
        begin = time.monotonic()
        child = self.start(*self.command(name, flags))
        _, said = child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, 0, said)
        return self.result(name), time.monotonic() - begin

    def kill_at(self, seconds, args):
        """Runs until the moment comes. Returns the phase in which it was killed, or None where the run
        came to its end before."""
        child = self.start(*args)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        _, said = child.communicate(timeout=TIMEOUT_S)
        if child.returncode == 0:
            return None
        self.assertEqual(child.returncode, -signal.SIGKILL, said)
        begun = re.findall(r"^(loading|reading|sampling|decoding|writing)", said, re.MULTILINE)
        return begun[-1] if begun else "starting"

    def expect_whole_files(self, name, wanted):
        """What lies under its final name is complete."""
        found = self.result(name)
        if found is not None:
            self.assertEqual(found, wanted, f"{name} is there and is not the video")
        for path in self.folder.glob("*.json"):
            json.loads(path.read_text())

    def go_on(self, name, flags):
        """Arguments that resume where there is a checkpoint; there is none before the first step and
        after the video."""
        checkpoint = self.folder / f"{name}.checkpoint.safetensors"
        return ["--resume", checkpoint.name] if checkpoint.exists() else self.command(name, flags)

    def finish(self, name, flags):
        child = self.start(*self.go_on(name, flags))
        _, said = child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, 0, said)

    def test_random_moments(self):
        (self.folder / "sparse.yml").write_text(SPARSE)
        print(f"{NUM_KILLS} kills with seed {SEED}", file=sys.stderr)
        draw = random.Random(SEED)
        wanted = {name: self.reference(name, flags) for name, flags in KINDS}
        phases = collections.Counter()
        while phases.total() < NUM_KILLS:
            name, flags = KINDS[phases.total() % len(KINDS)]
            video, seconds = wanted[name]
            self.tearDownRun()
            args = self.command(name, flags)
            # A run may be killed again while it resumes.
            while True:
                phase = self.kill_at(draw.uniform(0, seconds), args)
                if phase is None:
                    break
                phases[phase] += 1
                self.expect_whole_files(name, video)
                if draw.random() < 0.5:
                    break
                args = self.go_on(name, flags)
            self.finish(name, flags)
            self.assertEqual(self.result(name), video, f"{name} after {dict(phases)}")
            left = [e for e in self.entries() if ".part-" in e or "checkpoint" in e]
            self.assertEqual(left, [])
        print(f"killed while {dict(phases)}", file=sys.stderr)

    def tearDownRun(self):
        """Removes everything but the configuration."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            elif path.name != "sparse.yml":
                path.unlink()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
