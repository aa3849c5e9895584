// The kinds of video that the ffmpeg program writes, and its arguments for each.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/video_format.h"

namespace mochi {

struct VideoEncoder {
  std::string_view name;          // as ffmpeg calls it
  std::vector<std::string> args;  // its settings
};

struct VideoContainer {
  std::string_view ending;              // in lower case, with its dot
  std::vector<std::string> pixel_args;  // how RGB becomes what the encoder takes
  std::vector<VideoEncoder> encoders;   // the preferred one first
  std::vector<std::string> muxer_args;  // the container and its settings
  bool needs_even_size = false;
  FrameRate max_rate{1000, 1};
  // One packet in the file for each frame. Animations merge frames that are equal.
  bool has_packet_per_frame = true;
};

// Nothing for an ending that ffmpeg is not asked to write.
std::optional<VideoContainer> find_video_container(std::string_view ending);

// The arguments of ffmpeg that encode raw RGB frames from its standard input into `output`.
std::vector<std::string> encoding_args(const VideoContainer& container, const VideoEncoder& encoder,
                                       const VideoFormat& format, const std::string& output);

// Every ending that a video file can have: ".mp4, .mov, ... or .y4m".
std::string describe_video_endings();
bool is_video_ending(std::string_view ending);

}  // namespace mochi
