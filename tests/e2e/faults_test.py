"""Outputs that cannot be written, as the user sees them: one line that says why, an exit status that
is not 0, and nothing left behind.

Usage: faults_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import os
import re
import shlex
import subprocess
import unittest

from support import MOCHI, NUM_FRAMES, PROMPT, TIMEOUT_S, ProgramTest, read_y4m

NO_SPACE = "No space left on device"


class OutputTest(ProgramTest):
    def test_unwritable_outputs(self):
        (self.folder / "file").write_text("mine")
        for name in ("dir.y4m", "dir.mp4", "b.y4m.json", "dir", "full"):
            (self.folder / name).mkdir()
        (self.folder / "full" / "mine.txt").write_text("mine")
        (self.folder / "c.y4m.json").symlink_to("of-another.json")
        (self.folder / "d.y4m.checkpoint.safetensors").symlink_to("nowhere")
        name = "n" * 300
        cases = [
            (["--out", "none/a.y4m"], "cannot write 'none/a.y4m': folder 'none' does not exist"),
            (["--out", "none/a.mp4"], "cannot write 'none/a.mp4': folder 'none' does not exist"),
            (["--out", "none/a/"], "cannot write 'none/a': folder 'none' does not exist"),
            (["--out", "file/a.y4m"], "cannot write 'file/a.y4m': 'file' is not a folder"),
            (["--out", "file/a.mp4"], "cannot write 'file/a.mp4': 'file' is not a folder"),
            (["--out", "dir.y4m"], "cannot write 'dir.y4m': is a folder"),
            (["--out", "dir.mp4"], "cannot write 'dir.mp4': is a folder"),
            (
                ["--out", "full"],
                "cannot replace folder 'full': it holds 'mine.txt', which this program did not "
                "write (remove the folder or give another name)",
            ),
            (
                ["--out", "file"],
                "cannot write a folder 'file': a file of that name exists (for a video "
                "file give .mp4, .mov, .mkv, .webm, .gif, .webp or .y4m)",
            ),
            (
                ["--out", "b.y4m"],
                "'b.y4m.json' exists and is not the JSON of a video: it would be replaced",
            ),
            (
                ["--out", "c.y4m"],
                "'c.y4m.json' is a link to 'of-another.json', which would be replaced: remove the "
                "link",
            ),
            (
                ["--out", "d.y4m", "--checkpoint-every", 1],
                "'d.y4m.checkpoint.safetensors' is a link to 'nowhere', which would be replaced: "
                "remove the link",
            ),
            (
                ["--out", "a.avi"],
                "cannot write 'a.avi': wanted .mp4, .mov, .mkv, .webm, .gif, .webp or .y4m, or no "
                "ending for a folder of PNG files, found '.avi'",
            ),
            (["--out", f"{name}.y4m"], f"cannot write '{name}.y4m': File name too long"),
            (["--out", name], f"'{name}': File name too long"),
            (["--save-latents", "none/l"], "cannot write 'none/l': folder 'none' does not exist"),
            (["--save-latents", "dir"], "cannot write 'dir': is a folder"),
        ]
        args = ["generate", "--model-dir", self.model, "--prompt", PROMPT]
        for given, line in cases:
            with self.subTest(given):
                out = [] if "--out" in given else ["--out", "a.y4m"]
                self.refuse(1, line, *args, *out, *given)

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_folder_without_permission(self):
        (self.folder / "closed").mkdir(mode=0o555)
        line = "cannot write 'closed/a.y4m': folder 'closed' is not writable: Permission denied"
        self.refuse(
            1,
            line,
            "generate",
            "--model-dir",
            self.model,
            "--prompt",
            PROMPT,
            "--out",
            "closed/a.y4m",
        )

    def test_a_full_standard_output(self):
        line = re.compile(f"cannot write to the standard output: {NO_SPACE}")
        for args in (["version"], ["--help"], ["inspect", self.model, "--tensors"]):
            with self.subTest(args), open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run(
                    [MOCHI, *map(str, args)],
                    stdout=full,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
                done.stdout = ""
                self.expect_line(done, 1, line)


class SmallDiskTest(ProgramTest):
    """Runs in the test's folder, where `disk` is a separate small file system."""

    # In a separate mount namespace, so that nothing is left mounted: mounts, runs the program, and
    # lists what it has left.
    SCRIPT = """
        mount -t tmpfs -o "$1" tmpfs disk || exit
        shift
        "$@"
        code=$?
        ls -A disk >left
        exit $code
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.shared / "disk").mkdir()
        # Root can do without a user namespace; others, where it is allowed, have one.
        for options in ("-m", "-rm"):
            cls.namespace = ["unshare", options, "sh", "-c", cls.SCRIPT, "sh"]
            probe = subprocess.run(
                [*cls.namespace, "size=4k", "true"],
                cwd=cls.shared,
                capture_output=True,
                text=True,
                check=False,
            )
            if probe.returncode == 0:
                return
        super().tearDownClass()
        raise unittest.SkipTest(f"cannot mount a small tmpfs here: {probe.stderr.strip()}")

    def setUp(self):
        super().setUp()
        (self.folder / "disk").mkdir()

    def run_on_disk(self, options, *args):
        """Runs `mochi generate`; returns it and what it has left on the disk."""
        command = [MOCHI, "generate", "--model-dir", str(self.model), "--prompt", PROMPT]
        done = subprocess.run(
            [*self.namespace, options, *command, *map(str, args)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        left = (self.folder / "left").read_text().split()
        (self.folder / "left").unlink()
        return done, left

    def refuse_on_disk(self, options, line, *args):
        done, left = self.run_on_disk(options, "--quiet", *args)
        self.expect_line(done, 1, line)
        self.assertEqual(left, [])
        self.assertEqual(self.entries(), ["disk"])

    def expect_rescue(self, options, line, *args):
        """The video fails late; its latents are on the disk or, if that is full, next to it."""
        done, left = self.run_on_disk(options, "--quiet", *args)
        hint = "; the sampled latents are saved; to continue: .*mochi decode .*"
        self.expect_line(done, 1, re.compile(line.pattern + hint))
        here = [name for name in self.entries() if name != "disk"]
        self.assertEqual(len(left + here), 1)
        self.assertRegex((left + here)[0], r"latents.*\.safetensors$")
        for name in here:
            words = shlex.split(done.stderr.partition("to continue: ")[2])
            words[words.index("--out") + 1] = "again.y4m"
            subprocess.run(words, cwd=self.folder, check=True, capture_output=True)
            self.assertEqual(read_y4m(self.folder / "again.y4m")[1] % 6, 1)
            for file in (name, "again.y4m", "again.y4m.json"):
                (self.folder / file).unlink()

    def test_full_disk(self):
        for out in ("a.y4m", "frames/"):
            with self.subTest(out):
                name = r"frames/frame_0000\d\.png" if out == "frames/" else re.escape(out)
                line = re.compile(f"cannot write 'disk/{name}': {NO_SPACE}")
                self.expect_rescue("size=8k", line, "--out", f"disk/{out}")

    def test_full_disk_under_ffmpeg(self):
        failed = r"ffmpeg failed \(exit code \d+\): .*"
        for num_frames in (13, 67):
            for out in ("a.mp4", "a.webm", "a.gif"):
                with self.subTest(out, num_frames=num_frames):
                    line = re.compile(f"cannot write 'disk/{re.escape(out)}': {failed}{NO_SPACE}")
                    frames = ("--num-steps", 1, "--num-frames", num_frames)
                    self.expect_rescue("size=4k", line, *frames, "--out", f"disk/{out}")

    def test_full_disk_under_latents(self):
        args = ("--save-latents", "disk/l.safetensors", "--out", "a.y4m")
        done, left = self.run_on_disk("size=4k", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"warning: the latents are not saved: cannot write 'disk/l.safetensors': {NO_SPACE}", done.stderr)
        self.assertEqual(left, [])
        self.assertEqual(read_y4m(self.folder / "a.y4m")[1], NUM_FRAMES)

    def test_full_disk_behind_the_video(self):
        # A y4m of 60,043 bytes takes all of its 15 pages.
        done, left = self.run_on_disk("size=60k", "--out", "disk/a.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"warning: the video is complete, its JSON is not: cannot write 'disk/a.y4m.json': {NO_SPACE}", done.stderr)
        self.assertEqual(left, ["a.y4m"])

    def test_read_only_disk(self):
        for out in ("a.y4m", "a.mp4", "frames"):
            with self.subTest(out):
                reason = "folder 'disk' is not writable: Read-only file system"
                line = f"cannot write 'disk/{out}': {reason}"
                self.refuse_on_disk("ro", line, "--out", f"disk/{out}")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
