// The kinds of video readers; make_video_reader() chooses.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/video_reader.h"

namespace mochi {

inline constexpr std::string_view kY4mMagic = "YUV4MPEG2";

std::unique_ptr<VideoReader> make_y4m_reader(const std::filesystem::path& path,
                                             const ReadStart& start);
// Reads a file in memory, which must outlive the reader; `name` is its path in messages.
std::unique_ptr<VideoReader> make_y4m_reader(std::span<const std::byte> bytes,
                                             const std::filesystem::path& name,
                                             const ReadStart& start);
// A folder of images, or one image.
std::unique_ptr<VideoReader> make_image_reader(const std::filesystem::path& path,
                                               const ReadStart& start);
std::unique_ptr<VideoReader> make_ffmpeg_reader(const std::filesystem::path& path,
                                                const ReadStart& start, StopFn should_stop);

// Which pixel layout a y4m file names ("420jpeg" without one), if the built-in reader cannot read
// it: ffmpeg reads more of them.
std::optional<std::string> foreign_y4m_layout(const std::filesystem::path& path);

// Throws if a frame can have no such size; `source` begins the message.
void check_frame_format(const VideoFormat& format, const std::string& source);

// The rate of "24000/1001" or "30:1", if it is one.
std::optional<FrameRate> parse_stream_rate(std::string_view text, char separator);

}  // namespace mochi
