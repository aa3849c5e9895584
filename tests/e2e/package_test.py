"""The packages hold all they should and run from anywhere: package_test.py CPACK BUILD_FOLDER
VERSION."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CPACK, BUILD, VERSION = sys.argv[1:4]
MIRROR = "http://deb.debian.org/debian"


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=500, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def video_flags(path):
    return ["generate", "--device", "cpu", "--prompt", "a small red ball", "--num-frames", "7",
            "--num-steps", "2", "--out", path]


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        run(CPACK, "--config", Path(BUILD) / "CPackConfig.cmake", "-B", cls.folder / "packages")
        cls.package = next((cls.folder / "packages").glob("*.deb"))
        cls.archive = next((cls.folder / "packages").glob("*.tar.gz"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def expect_video(self, program, name, environment=None):
        video = self.folder / name
        run(program, *video_flags(video), env=environment)
        self.assertGreater(video.stat().st_size, 7 * 320 * 192)

    def test_the_archive_makes_a_video_with_an_empty_environment(self):
        run("tar", "-xf", self.archive, "-C", self.folder)
        root = self.folder / f"mochi-{VERSION}-linux-x86_64"
        for name in ("LICENSE", "docs/building.md", "models/micro/config.json", "licences",
                     "share/man/man1/mochi.1", "share/bash-completion/completions/mochi"):
            self.assertTrue((root / name).exists(), name)
        self.expect_video(root / "bin/mochi", "archive.y4m", {})

    @unittest.skipUnless(shutil.which("dpkg-deb"), "no dpkg-deb here")
    def test_the_debian_package_is_complete_and_makes_a_video(self):
        root = self.folder / "root"
        run("dpkg-deb", "-x", self.package, root)
        for name in ("bin/mochi", "lib/libmochi.a", "lib/libmochi.so", "lib/pkgconfig/mochi.pc",
                     "lib/cmake/mochi/mochiConfig.cmake", "include/mochi/mochi.h",
                     "share/mochi/models/micro/config.json", "share/mochi/chipmunk-config.yml",
                     "share/man/man1/mochi.1", "share/bash-completion/completions/mochi",
                     "share/zsh/site-functions/_mochi", "share/doc/mochi/docs/building.md",
                     "share/doc/mochi/LICENSE"):
            self.assertTrue((root / "usr" / name).exists(), name)
        self.assertEqual(run("dpkg-deb", "-f", self.package, "Version").strip(), VERSION)
        depends = run("dpkg-deb", "-f", self.package, "Depends")
        for library in ("libc6", "libcurl4", "libdnnl", "libgomp1", "libsentencepiece", "libssl3",
                        "libyaml-cpp"):
            self.assertIn(library, depends)
        self.expect_video(root / "usr/bin/mochi", "deb.y4m")

    @unittest.skipUnless(shutil.which("debootstrap") and os.geteuid() == 0,
                         "a minimal Debian needs debootstrap and root")
    def test_a_minimal_debian_installs_the_package_and_makes_a_video(self):
        root = self.folder / "debian"
        run("debootstrap", "--variant=minbase", "bookworm", root, MIRROR)
        shutil.copy(self.package, root / "mochi.deb")
        run("chroot", root, "apt-get", "install", "-y", "--no-install-recommends", "/mochi.deb",
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        run("chroot", root, "mochi", *video_flags("/video.y4m"))
        self.assertGreater((root / "video.y4m").stat().st_size, 7 * 320 * 192)
        run("tar", "-xf", self.archive, "-C", root / "opt")
        run("mount", "-t", "proc", "proc", root / "proc")  # the loader looks there for $ORIGIN
        try:
            run("chroot", root, f"/opt/mochi-{VERSION}-linux-x86_64/bin/mochi",
                *video_flags("/archive.y4m"))
        finally:
            run("umount", root / "proc")
        self.assertEqual((root / "archive.y4m").read_bytes(), (root / "video.y4m").read_bytes())


if __name__ == "__main__":
    unittest.main(argv=[__file__])
