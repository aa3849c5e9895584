"""Programs outside the tree build against an installed libmochi and make the same video:
library_test.py CMAKE BUILD_FOLDER SOURCE_FOLDER."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, BUILD, SOURCE = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
FRAMES, STEPS = 7, 2
# Every exported symbol is one of these: a public name, or a template of the standard library.
PUBLIC = re.compile(
    r"^(typeinfo (name )?for |vtable for )?(mochi::(Engine|ModelInfo|Error|InvalidRequest|OutOfMemory"
    r"|NotFinite|ModelMissing|Cancelled|Busy)\b|mochi::(version|name_of|parse_\w+|fingerprint_file"
    r"|inspect_model|convert_weights|has_any|delta_name|load_sparsity_config|validate"
    r"|sparsity_warnings|to_yaml|to_json|list_full_steps|fit_schedules|noise_levels|make_step_\w+"
    r"|adapt_to_few_steps)(\[abi:cxx11\])?\()")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=300, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Library(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        installed = cls.folder / "installed"
        run(CMAKE, "--install", BUILD, "--prefix", installed)
        cls.prefix = cls.folder / "moved"  # nothing depends on where it was installed
        installed.rename(cls.prefix)
        cls.source = cls.folder / "source"  # the example alone, without the tree around it
        shutil.copytree(SOURCE / "examples", cls.source)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def build_by_cmake(self, name, *options):
        build = self.folder / name
        run(CMAKE, "-S", self.source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}",
            "-DCMAKE_BUILD_TYPE=Release", *options)
        run(CMAKE, "--build", build)
        return build / "generate"

    def build_by_pkg_config(self):
        environment = {**os.environ, "PKG_CONFIG_PATH": str(self.prefix / "lib/pkgconfig")}
        version = run("pkg-config", "--modversion", "mochi", env=environment).strip()
        self.assertRegex(version, r"^\d+\.\d+\.\d+$")
        flags = run("pkg-config", "--cflags", "--libs", "mochi", env=environment).split()
        program = self.folder / "by-pkg-config"
        run(os.environ.get("CXX", "c++"), self.source / "generate.cpp", *flags,
            f"-Wl,-rpath,{self.prefix / 'lib'}", "-o", program)
        return program

    def make_video(self, program):
        video = self.folder / (program.parent.name + "-" + program.name + ".y4m")
        model = self.prefix / "share/mochi/models/micro"
        told = run(program, model, "a small red ball", video, FRAMES, STEPS)
        self.assertIn(f"{STEPS} steps on ", told)
        data = video.read_bytes()
        header, frames = data.split(b"\n", 1)
        size = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) F\d+:1 ", header)
        self.assertTrue(size, header)
        num_bytes = int(size[1]) * int(size[2]) * 3
        self.assertEqual(len(frames), FRAMES * (num_bytes + len("FRAME\n")))
        self.assertGreater(len(set(frames[6:6 + num_bytes])), 50)  # a picture, not one colour
        return data

    def test_programs_of_every_kind_make_the_same_video(self):
        shared = self.make_video(self.build_by_cmake("shared"))
        self.assertEqual(self.make_video(self.build_by_cmake("static", "-DMOCHI_STATIC=ON")), shared)
        self.assertEqual(self.make_video(self.build_by_pkg_config()), shared)

    def test_the_shared_library_exports_the_public_api_alone(self):
        listed = run("nm", "-D", "-C", "--defined-only", self.prefix / "lib/libmochi.so")
        symbols = [line.split(maxsplit=2)[2] for line in listed.splitlines()]
        self.assertGreater(len(symbols), 40)
        self.assertEqual([name for name in symbols if not PUBLIC.match(name)], [])

    def test_errors_cross_the_library_with_their_types(self):
        program = self.build_by_cmake("errors")
        model = self.prefix / "share/mochi/models/micro"
        refused = subprocess.run([program, model, "a ball", self.folder / "x.y4m", "8"],
                                 capture_output=True, text=True)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("num_frames is refused: wanted 6", refused.stderr)
        failed = subprocess.run([program, model, "a ball", "nowhere/x.y4m", "7"],
                                cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(failed.returncode, 1)
        self.assertTrue(failed.stderr.endswith("\ngenerate: cannot write nowhere/x.y4m\n"))
        self.assertNotIn("sampling", failed.stderr)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
