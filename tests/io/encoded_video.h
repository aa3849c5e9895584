// Properties of the videos that tests write, as other programs report them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/subprocess.h"
#include "io/json.h"
#include "io/test_video.h"

namespace mochi {

inline constexpr VideoFormat kFormat{64, 48, {30, 1}};
inline constexpr int kNumFrames = 7;

// The video stream as ffprobe describes it.
inline Json probe(const std::filesystem::path& path) {
  const std::string text = run_program({"ffprobe", "-v", "error", "-count_frames", "-show_streams",
                                        "-of", "json", "-i", "file:" + path.string()});
  return parse_json(text, path.string())["streams"][0];
}

// The frames as ffmpeg turns them into RGB with its own defaults.
inline std::string decode(const std::filesystem::path& path) {
  return run_program({"ffmpeg", "-v", "error", "-i", "file:" + path.string(), "-f", "rawvideo",
                      "-pix_fmt", "rgb24", "pipe:1"});
}

inline void expect_frames_close(const std::filesystem::path& path, const VideoFormat& format,
                                double tolerance) {
  const std::string decoded = decode(path);
  ASSERT_EQ(decoded.size(), format.frame_bytes() * kNumFrames);
  for (int i = 0; i < kNumFrames; ++i) {
    const auto* begin = reinterpret_cast<const std::uint8_t*>(decoded.data()) +
                        static_cast<std::size_t>(i) * format.frame_bytes();
    EXPECT_LE(mean_difference(test_frame(format, i), {begin, format.frame_bytes()}), tolerance)
        << "frame " << i;
  }
}

}  // namespace mochi
