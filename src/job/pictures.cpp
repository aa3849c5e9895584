#include "job/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "base/atomic_file.h"
#include "io/image.h"

namespace mochi::job {
namespace {

constexpr FrameSize kMaxThumbnail{512, 512};
constexpr FrameSize kMaxCell{256, 512};
constexpr std::int64_t kMaxCells = 16;
constexpr int kPictureQuality = 85;

// The largest size with the shape of `size` that fits into `most`; never larger than `size`.
FrameSize shrink_into(FrameSize size, FrameSize most) {
  const double scale = std::min({1.0, static_cast<double>(most.width) / size.width,
                                 static_cast<double>(most.height) / size.height});
  const auto side = [&](int length) {
    return std::max(1, static_cast<int>(std::lround(length * scale)));
  };
  return {side(size.width), side(size.height)};
}

std::vector<std::uint8_t> scale(std::span<const std::uint8_t> rgb, FrameSize from, FrameSize to) {
  constexpr double kSquarePixels = 1.0;
  return resize_frame(rgb, from, kSquarePixels, to, Fit::kStretch);
}

std::int64_t middle_of(const VideoSize& size) { return (size.num_frames - 1) / 2; }

}  // namespace

Pictures::Pictures(PictureFiles files, WarningFn on_warning)
    : files_(std::move(files)), on_warning_(std::move(on_warning)) {}

void Pictures::add(std::span<const std::uint8_t> rgb, std::int64_t frame_idx,
                   const VideoSize& size) {
  if (has_failed_) return;
  try {
    if (frame_idx == 0) begin(size);
    const FrameSize from{size.width, size.height};
    if (frame_idx == middle_of(size)) thumbnail_ = scale(rgb, from, thumbnail_size_);
    take(rgb, frame_idx, from);
    if (frame_idx + 1 == size.num_frames) write();
  } catch (const std::exception& error) {
    has_failed_ = true;
    on_warning_(fmt::format("no pictures of the video: {}", error.what()));
  }
}

void Pictures::begin(const VideoSize& size) {
  const FrameSize frame{size.width, size.height};
  thumbnail_size_ = shrink_into(frame, kMaxThumbnail);
  cell_size_ = shrink_into(frame, kMaxCell);
  shown_ = spaced_indices(size.num_frames, kMaxCells);
  sheet_ = ContactSheet(cell_size_, static_cast<int>(shown_.size()));
}

void Pictures::take(std::span<const std::uint8_t> rgb, std::int64_t frame_idx, FrameSize from) {
  const auto found = std::ranges::find(shown_, frame_idx);
  if (found == shown_.end()) return;
  sheet_.put(static_cast<int>(found - shown_.begin()), scale(rgb, from, cell_size_));
}

void Pictures::write() const {
  write_file_atomically(files_.thumbnail, encode_jpeg(thumbnail_size_.width, thumbnail_size_.height,
                                                      thumbnail_, kPictureQuality));
  write_file_atomically(files_.spritesheet, sheet_.encode_jpeg(kPictureQuality));
}

}  // namespace mochi::job
