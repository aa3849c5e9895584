"""`mochi encode`: which part of which videos becomes latents, and what is refused before the work."""

import resource
import shutil
import subprocess
import unittest

from support import ProgramTest, read_latents


def write_y4m(path, width, height, num_frames, fps="24:1"):
    frame = b"FRAME\n" + bytes(3 * width * height)
    header = f"YUV4MPEG2 W{width} H{height} F{fps} C444\n".encode()
    path.write_bytes(header + num_frames * frame)


class Encode(ProgramTest):
    def encode(self, video, *args, out="l.safetensors"):
        return self.run_mochi("encode", video, "--out", out, "--model-dir", self.model, *args)

    def encode_ok(self, video, *args):
        """The latents' frames, height and width."""
        done = self.encode(video, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.last_stderr = done.stderr
        return read_latents(self.folder / "l.safetensors")[0]["shape"][2:]

    def test_a_part_of_a_video(self):
        write_y4m(self.folder / "v.y4m", 64, 48, 20)
        self.assertEqual(self.encode_ok("v.y4m", "--num-frames", 7), [2, 6, 8])
        self.assertEqual(self.encode_ok("v.y4m", "--start", 1), [4, 6, 8])
        self.assertEqual(self.encode_ok("v.y4m", "--start", "0.5s", "--num-frames", 7), [2, 6, 8])
        self.expect_error(self.encode("v.y4m"), 1, "'v.y4m': num_frames: wanted 6·k + 1, found 20; the "
                          "nearest are 19 and 25 (--num-frames takes a part of it)")
        self.expect_error(self.encode("v.y4m", "--num-frames", 25), 1, "wanted 25 frames")
        self.expect_error(self.encode("v.y4m", "--num-frames", 8), 2, "--num-frames: wanted 6·k + 1")
        self.expect_error(self.encode("v.y4m", "--start", 20), 1, "'v.y4m' has no frame at the start")
        self.expect_error(self.encode("v.y4m", "--start", "soon"), 2, "--start: wanted a frame")

    def test_another_size(self):
        write_y4m(self.folder / "v.y4m", 100, 50, 1)
        self.expect_error(self.encode("v.y4m"), 1, "width: wanted a multiple of 16, found 100")
        for fit in ("crop", "pad", "stretch"):
            shape = self.encode_ok("v.y4m", "--width", 64, "--height", 48, "--fit", fit)
            self.assertEqual(shape, [1, 6, 8])
        self.assertEqual(self.encode_ok("v.y4m", "--width", 64, "--height", 48), [1, 6, 8])
        for args, message in (
            (("--width", 64), "--width and --height: wanted both or neither"),
            (("--fit", "pad"), "--fit: has no effect without --width and --height"),
            (("--width", 64, "--height", 48, "--fit", "zoom"), "wanted 'crop', 'pad' or 'stretch', found 'zoom'"),
            (("--width", 65, "--height", 48), "--width: wanted a multiple of 16, found 65"),
        ):
            self.expect_error(self.encode("v.y4m", *args), 2, message)

    def test_the_rate_of_the_video_is_stored(self):
        write_y4m(self.folder / "v.y4m", 64, 48, 1, fps="60000:1001")
        self.encode_ok("v.y4m")
        self.run_mochi("decode", "l.safetensors", "--out", "w.y4m")
        self.assertIn(b" F60000:1001 ", self.content("w.y4m").split(b"\n")[0])

    def test_inputs_are_never_outputs(self):
        write_y4m(self.folder / "v.y4m", 64, 48, 1)
        shutil.copy(self.folder / "v.y4m", self.folder / "v.safetensors")
        (self.folder / "link.safetensors").symlink_to("v.safetensors")
        before = self.content("v.safetensors")
        for out, message in (
            ("v.y4m", "wanted a name that ends in .safetensors, found 'v.y4m'"),
            ("v.safetensors", "is the video to encode"),
            ("./v.safetensors", "is the video to encode"),
            ("link.safetensors", "is the video to encode"),
            (self.model / "dit.safetensors", "is a file of the model"),
            (self.model / "encoder.safetensors", "is a file of the model"),
        ):
            self.expect_error(self.encode("v.safetensors", out=out), 2, message)
        self.assertEqual(self.content("v.safetensors"), before)

    def test_long_videos_are_refused_in_little_memory(self):
        source = ["-f", "lavfi", "-i", "color=c=red:size=854x482:rate=24"]
        subprocess.run(["ffmpeg", "-v", "error", *source, "-t", "30", "-preset", "ultrafast",
                        self.folder / "long.mp4"], check=True)
        done = self.encode("long.mp4")
        self.expect_error(done, 1, "width: wanted a multiple of 16, found 854")
        done = self.encode("long.mp4", "--width", 64, "--height", 48)
        self.expect_error(done, 1, "num_frames: wanted 6·k + 1, found 720")
        used_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.assertLess(used_kib, 400 << 10)  # all frames are 850 MiB

    def test_videos_that_were_cut_off(self):
        self.generate_ok("--out", "v.mkv")
        whole = (self.folder / "v.mkv").read_bytes()
        (self.folder / "v.mkv").write_bytes(whole[: len(whole) * 2 // 3])
        self.expect_error(self.encode("v.mkv"), 1, "cannot read 'v.mkv': it was cut off")
        self.assertFalse((self.folder / "l.safetensors").exists())


if __name__ == "__main__":
    unittest.main(argv=[__file__])
