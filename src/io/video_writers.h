// The kinds of video writers; make_video_writer chooses.
#pragma once

#include <filesystem>
#include <memory>

#include "io/video_encoding.h"
#include "io/video_writer.h"

namespace mochi {

std::unique_ptr<VideoWriter> make_ffmpeg_writer(const std::filesystem::path& path,
                                                const VideoFormat& format,
                                                const VideoContainer& container,
                                                StopFn should_stop);
std::unique_ptr<VideoWriter> make_y4m_writer(const std::filesystem::path& path,
                                             const VideoFormat& format);
std::unique_ptr<VideoWriter> make_png_folder_writer(const std::filesystem::path& path,
                                                    const VideoFormat& format);

}  // namespace mochi
