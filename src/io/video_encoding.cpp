#include "io/video_encoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace mochi {
namespace {

using Args = std::vector<std::string>;

// The scaler must apply the matrix, and the stream's tags must name it: tags alone would make
// players decode with a matrix that the pixels were not made with.
Args bt709_args() {
  return {"-vf",
          "scale=in_range=full:out_range=tv:out_color_matrix=bt709",
          "-pix_fmt",
          "yuv420p",
          "-colorspace",
          "bt709",
          "-color_primaries",
          "bt709",
          "-color_trc",
          "bt709",
          "-color_range",
          "tv"};
}

std::vector<VideoEncoder> h264_encoders() {
  return {{"libx264", {"-preset", "medium", "-crf", "18"}},
          {"libopenh264", {"-b:v", "8M"}},
          {"mpeg4", {"-q:v", "2"}}};
}

VideoContainer h264_container(std::string_view ending, Args muxer_args) {
  return {.ending = ending,
          .pixel_args = bt709_args(),
          .encoders = h264_encoders(),
          .muxer_args = std::move(muxer_args),
          .needs_even_size = true};
}

VideoContainer webm_container(std::string_view ending) {
  return {.ending = ending,
          .pixel_args = bt709_args(),
          .encoders = {{"libvpx-vp9",
                        {"-crf", "24", "-b:v", "0", "-deadline", "good", "-cpu-used", "4",
                         "-row-mt", "1"}},
                       {"libvpx", {"-crf", "8", "-b:v", "8M"}},
                       {"libsvtav1", {"-crf", "24"}}},
          .muxer_args = {"-f", "webm"}};
}

VideoContainer gif_container(std::string_view ending) {
  // A palette for each frame: its colours are better than those of one for all frames, and no frame
  // has to be held in memory. Players take delays below 2/100 s for 10/100 s.
  return {.ending = ending,
          .pixel_args = {"-vf",
                         "split[a][b];[a]palettegen=stats_mode=single[palette];"
                         "[b][palette]paletteuse=new=1"},
          .encoders = {{"gif", {}}},
          .muxer_args = {"-loop", "0", "-f", "gif"},
          .max_rate = {50, 1},
          .has_packet_per_frame = false};
}

VideoContainer webp_container(std::string_view ending) {
  // WebP is always BT.601 in limited range, as ffmpeg converts by default.
  return {.ending = ending,
          .pixel_args = {"-pix_fmt", "yuv420p"},
          .encoders = {{"libwebp_anim", {"-q:v", "90"}}, {"libwebp", {"-q:v", "90"}}},
          .muxer_args = {"-loop", "0", "-f", "webp"},
          .has_packet_per_frame = false};
}

struct Entry {
  std::string_view ending;
  VideoContainer (*make)(std::string_view ending);
};

constexpr std::array kContainers{
    Entry{".mp4",
          [](std::string_view ending) {
            return h264_container(ending, {"-movflags", "+faststart", "-f", "mp4"});
          }},
    Entry{".mov",
          [](std::string_view ending) {
            return h264_container(ending, {"-movflags", "+faststart", "-f", "mov"});
          }},
    Entry{".mkv",
          [](std::string_view ending) { return h264_container(ending, {"-f", "matroska"}); }},
    Entry{".webm", webm_container},
    Entry{".gif", gif_container},
    Entry{".webp", webp_container}};

}  // namespace

std::optional<VideoContainer> find_video_container(std::string_view ending) {
  const auto* const found = std::ranges::find(kContainers, ending, &Entry::ending);
  if (found == kContainers.end()) return std::nullopt;
  return found->make(found->ending);
}

std::vector<std::string> encoding_args(const VideoContainer& container, const VideoEncoder& encoder,
                                       const VideoFormat& format, const std::string& output) {
  Args args{"ffmpeg", "-hide_banner", "-loglevel", "error",
            // Without it a video that a full disk cut short counts as a success.
            "-xerror", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
            fmt::format("{}x{}", format.width, format.height), "-framerate",
            fmt::format("{}/{}", format.fps.numerator, format.fps.denominator), "-i", "pipe:0",
            "-an"};
  const auto append = [&args](const Args& more) {
    args.insert(args.end(), more.begin(), more.end());
  };
  append(container.pixel_args);
  append({"-c:v", std::string(encoder.name)});
  append(encoder.args);
  append(container.muxer_args);
  // "file:" keeps a colon in the name from being taken for a protocol.
  args.push_back("file:" + output);
  return args;
}

bool is_video_ending(std::string_view ending) {
  return ending == ".y4m" ||
         std::ranges::find(kContainers, ending, &Entry::ending) != kContainers.end();
}

std::string describe_video_endings() {
  std::string endings;
  for (const Entry& entry : kContainers) endings += fmt::format("{}, ", entry.ending);
  return endings.substr(0, endings.size() - 2) + " or .y4m";
}

}  // namespace mochi
