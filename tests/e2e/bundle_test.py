"""A bundle runs where there is nothing but it: bundle_test.py CMAKE BUILD_FOLDER."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, BUILD = sys.argv[1:3]
# What a machine brings along.
GLIBC = re.compile(r"(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|resolv))\.so")


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        made = cls.folder / "made"
        subprocess.run([CMAKE, "--install", BUILD, "--prefix", made, "--component", "bundle",
                        "--strip"], check=True, stdout=subprocess.DEVNULL)
        cls.bundle = cls.folder / "moved"  # it must not depend on where it was made
        made.rename(cls.bundle)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_it(self, *args, **environment):
        return subprocess.run([self.bundle / "bin/mochi", *args], cwd=self.folder, env=environment,
                              capture_output=True, text=True, timeout=120)

    def test_libraries_are_its_own(self):
        listed = self.run_it(LD_TRACE_LOADED_OBJECTS="1").stdout
        found = 0
        for line in listed.splitlines():
            name = line.split()[0]
            if GLIBC.search(name):
                continue
            self.assertIn(f"=> {self.bundle}/bin/../lib/", line)
            found += 1
        self.assertGreater(found, 4)
        carried = {path.name for path in (self.bundle / "lib").iterdir()}
        self.assertFalse([name for name in carried if GLIBC.match(name)])

    def test_runs_with_an_empty_environment(self):
        version = self.run_it("--version")
        self.assertEqual(version.returncode, 0, version.stderr)
        self.assertRegex(version.stdout, r"\d+\.\d+\.\d+")
        told = self.run_it("inspect", self.bundle / "models/micro")
        self.assertEqual(told.returncode, 0, told.stderr)
        self.assertIn("transformer", told.stdout.lower())

    def test_makes_a_video(self):
        video = self.folder / "video.y4m"
        made = self.run_it("generate", "--device", "cpu",
                           "--prompt", "a small red ball", "--num-frames", "7", "--num-steps", "2",
                           "--chipmunk-config", self.bundle / "chipmunk-config.yml",
                           "--out", video)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertGreater(video.stat().st_size, 7 * 320 * 192)

    def test_has_licences_and_documents(self):
        for name in ("LICENSE", "libraries.md", "models/micro/config.json"):
            self.assertTrue((self.bundle / name).is_file(), name)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
