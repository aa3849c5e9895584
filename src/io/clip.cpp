#include "io/clip.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/memory_usage.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

std::size_t frame_bytes(FrameSize size) {
  return static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) * 3;
}

// The number of frames to read; without a wanted number the file's frames are counted.
int count_clip_frames(const fs::path& path, VideoReader& reader, const ClipOptions& options) {
  if (options.num_frames) return *options.num_frames;
  const std::int64_t num_frames = reader.count_frames();
  if (num_frames == 0) fail("'{}' has no frame at the start that is wanted", path.string());
  return static_cast<int>(std::min<std::int64_t>(num_frames, std::numeric_limits<int>::max()));
}

void check_memory(const fs::path& path, FrameSize size, int num_frames) {
  constexpr double kGigabyte = 1e9;
  const std::size_t wanted = frame_bytes(size) * static_cast<std::size_t>(num_frames);
  const std::uint64_t available = available_memory_bytes();
  if (available == 0 || wanted <= available) return;
  throw OutOfMemory(fmt::format(
      "'{}': {} frames of {}x{} take {:.1f} GB of memory, {:.1f} GB are free", path.string(),
      num_frames, size.width, size.height, static_cast<double>(wanted) / kGigabyte,
      static_cast<double>(available) / kGigabyte));
}

void note_pixel_aspect(const fs::path& path, const VideoReader& reader, Clip& clip) {
  constexpr double kTolerance = 0.01;
  if (std::abs(reader.pixel_aspect() - 1) < kTolerance) return;
  clip.notes.push_back(
      fmt::format("'{}': its pixels are not square (players show it {:.0f} wide and {} high); the "
                  "frames are read as stored",
                  path.string(), clip.size.width * reader.pixel_aspect(), clip.size.height));
}

void read_frames(const fs::path& path, VideoReader& reader, int num_wanted,
                 const ClipOptions& options, Clip& clip) {
  const VideoFormat& format = reader.format();
  const FrameSize stored{format.width, format.height};
  const bool is_resized = options.size.has_value();
  std::vector<std::uint8_t> frame(format.frame_bytes());
  clip.rgb.reserve(frame_bytes(clip.size) * static_cast<std::size_t>(num_wanted));
  while (clip.num_frames < num_wanted && reader.read_frame(frame)) {
    if (is_resized) {
      const std::vector<std::uint8_t> resized =
          resize_frame(frame, stored, reader.pixel_aspect(), clip.size, options.fit);
      clip.rgb.insert(clip.rgb.end(), resized.begin(), resized.end());
    } else {
      clip.rgb.insert(clip.rgb.end(), frame.begin(), frame.end());
    }
    ++clip.num_frames;
    if (options.should_stop && options.should_stop()) throw Cancelled();
  }
  // A reader only knows after the last frame that the file is complete.
  if (!options.num_frames && clip.num_frames == num_wanted) reader.read_frame(frame);
  if (clip.num_frames < num_wanted) {
    fail("'{}': wanted {} frames from the start of the clip on, found {}", path.string(),
         num_wanted, clip.num_frames);
  }
}

}  // namespace

std::optional<ReadStart> parse_read_start(std::string_view text) {
  constexpr double kMaxSeconds = 1e6;
  ReadStart start;
  const bool is_time = text.ends_with('s');
  if (is_time) text.remove_suffix(1);
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [rest, error] =
      is_time ? std::from_chars(begin, end, start.seconds, std::chars_format::fixed)
              : std::from_chars(begin, end, start.frame);
  const bool is_valid = error == std::errc() && rest == end && start.seconds <= kMaxSeconds;
  return is_valid ? std::optional(start) : std::nullopt;
}

Clip read_clip(const fs::path& path, const ClipOptions& options) {
  const std::unique_ptr<VideoReader> reader =
      make_video_reader(path, options.start, options.should_stop);
  const VideoFormat& format = reader->format();
  Clip clip;
  clip.size = options.size.value_or(FrameSize{format.width, format.height});
  if (reader->has_rate()) clip.rate = format.fps;
  if (!options.size) note_pixel_aspect(path, *reader, clip);
  // The size alone first: to count the frames of a long video takes a while.
  if (options.check_size) options.check_size(clip.size, options.num_frames.value_or(1));
  const int num_frames = count_clip_frames(path, *reader, options);
  if (options.check_size) options.check_size(clip.size, num_frames);
  check_memory(path, clip.size, num_frames);
  read_frames(path, *reader, num_frames, options, clip);
  for (std::string& note : reader->notes()) clip.notes.push_back(std::move(note));
  return clip;
}

}  // namespace mochi
