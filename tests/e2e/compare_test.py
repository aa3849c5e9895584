"""How near two videos or latents are, from the command line.

Usage: compare_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import math
import unittest

from support import ProgramTest, write_latents


def write_y4m(path, frames, width=32, height=16):
    """4:4:4 frames, each of one grey value."""
    header = f"YUV4MPEG2 W{width} H{height} F24:1 Ip A1:1 C444\n".encode()
    planes = [bytes([value]) * (width * height) + bytes([128]) * (2 * width * height)
              for value in frames]
    path.write_bytes(header + b"".join(b"FRAME\n" + plane for plane in planes))


class CompareTest(ProgramTest):
    def compare(self, *args):
        return self.run_mochi("compare", *args)

    def test_videos(self):
        write_y4m(self.folder / "a.y4m", [50, 60, 70])
        write_y4m(self.folder / "b.y4m", [50, 60, 90])
        done = self.compare("a.y4m", "b.y4m", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual([frame["psnr"] is None for frame in told["frames"]], [True, True, False])
        self.assertEqual([frame["largest_difference"] for frame in told["frames"]][:2], [0, 0])
        largest = told["largest_difference"]
        self.assertAlmostEqual(largest, 20 * 255 / 219, delta=1)  # of luma, stretched to RGB
        self.assertAlmostEqual(told["frames"][2]["psnr"], 20 * math.log10(255 / largest), places=6)
        # The whole: a third of the frames differ.
        self.assertAlmostEqual(told["psnr"], told["frames"][2]["psnr"] + 10 * math.log10(3), places=6)
        table = self.compare("a.y4m", "b.y4m").stdout.splitlines()
        self.assertEqual(len(table), 5)
        self.assertEqual(table[1].split(), ["0", "inf", "1.00000", "0"])
        self.assertEqual(table[-1].split()[0], "all")

    def test_folders_of_pngs(self):
        for name, seed in (("one/", 1), ("same/", 1), ("other/", 2), ("one.y4m", 1)):
            self.generate_ok("--out", name, "--seed", seed)
        told = {name: json.loads(self.compare("one", name, "--json").stdout)
                for name in ("same", "other", "one.y4m")}
        self.assertIsNone(told["same"]["psnr"])
        self.assertEqual(told["same"]["ssim"], 1)
        self.assertLess(told["other"]["ssim"], 0.9)
        # Its colours have half the resolution, which the noise of a random model does not survive.
        self.assertEqual(len(told["one.y4m"]["frames"]), 13)

    def test_latents(self):
        write_latents(self.folder / "a.safetensors", [1, 2, 2, 1, 1], values=[1, 2, 2, 4])
        write_latents(self.folder / "b.safetensors", [1, 2, 2, 1, 1], values=[1, 2, 2, 9])
        told = json.loads(self.compare("a.safetensors", "b.safetensors", "--json").stdout)
        self.assertAlmostEqual(told["relative_error"], 1.0)  # ‖(0,0,0,5)‖ / ‖(1,2,2,4)‖
        self.assertEqual(told["largest_difference"], 5)
        self.assertEqual(told["frames"][0]["relative_error"], 0)
        self.assertAlmostEqual(told["frames"][1]["relative_error"], 5 / math.sqrt(20))
        self.assertIn("1.000e+00", self.compare("a.safetensors", "b.safetensors").stdout)

    def test_files_that_cannot_be_compared(self):
        write_y4m(self.folder / "a.y4m", [50, 60])
        write_y4m(self.folder / "short.y4m", [50])
        write_y4m(self.folder / "wide.y4m", [50, 60], width=48)
        write_latents(self.folder / "l.safetensors", [1, 2, 2, 1, 1])
        write_latents(self.folder / "m.safetensors", [1, 2, 1, 1, 1])
        for names, message in [
            (("a.y4m", "short.y4m"), "'a.y4m' is 2 frames or more, 'short.y4m' is 1 frames: they "
                                     "cannot be compared"),
            (("l.safetensors", "none.mp4"), "cannot open 'none.mp4': no such file or folder"),
            (("a.y4m", "wide.y4m"), "'a.y4m' is 32x16, 'wide.y4m' is 48x16: they cannot be compared"),
            (("a.y4m", "l.safetensors"), "'a.y4m' is a video, 'l.safetensors' is a latents file"),
            (("l.safetensors", "m.safetensors"), "'l.safetensors' is [1, 2, 2, 1, 1], "
                                                 "'m.safetensors' is [1, 2, 1, 1, 1]"),
            (("a.y4m", "none.y4m"), "none.y4m"),
        ]:
            with self.subTest(names):
                self.expect_error(self.compare(*names), 1, message)
        self.expect_error(self.compare("a.y4m"), 2, "SECOND: is required")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
