// YUV4MPEG2 of 8 bits, 4:2:0 or 4:4:4.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/mapped_file.h"
#include "io/color.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// 0 unless the text begins with a number that fits.
int parse_number(std::string_view text) {
  int number = 0;
  std::from_chars(std::to_address(text.begin()), std::to_address(text.end()), number);
  return number;
}

// Pixels per chroma sample in each direction; 0 for a layout that is not built in.
std::size_t block_of(std::string_view layout) {
  if (layout == "420" || layout == "420jpeg" || layout == "420mpeg2" || layout == "420paldv") {
    return 2;
  }
  return layout == "444" ? 1 : 0;
}

template <typename Fn>
void visit_fields(std::string_view header, const Fn& fn) {
  header.remove_prefix(std::min(header.find(' '), header.size()));
  while (!header.empty()) {
    header.remove_prefix(1);
    const std::size_t end = std::min(header.find(' '), header.size());
    if (end > 0) fn(header[0], header.substr(1, end - 1));
    header.remove_prefix(end);
  }
}

class Y4mReader final : public VideoReader {
 public:
  Y4mReader(MappedFile file, const ReadStart& start) : Y4mReader(file.bytes(), file.path(), start) {
    file_ = std::move(file);
  }

  Y4mReader(std::span<const std::byte> bytes, const fs::path& name, const ReadStart& start)
      : bytes_(bytes), source_("'" + name.string() + "'") {
    if (bytes_.empty()) fail("{}: the file is empty", source_);
    const auto fail_kind = [&] {
      fail("{}: not a y4m file: it is {}", source_, recognise_content(bytes_).name);
    };
    if (bytes_.size() > kY4mMagic.size() && static_cast<char>(bytes_[0]) != 'Y') fail_kind();
    const std::string_view header = next_line();
    if (!header.starts_with(kY4mMagic)) fail_kind();
    visit_fields(header, [this](char key, std::string_view value) { parse_field(key, value); });
    check_frame_format(format_, source_);
    const auto num_skipped =
        start.seconds > 0
            ? static_cast<std::int64_t>(std::ceil(start.threshold_seconds() * format_.fps.value()))
            : start.frame;
    for (std::int64_t i = 0; i < num_skipped && skip_frame(); ++i) {
    }
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (offset_ == bytes_.size()) return false;
    next_frame_line();
    const std::span<const std::byte> luma = take(num_pixels());
    const std::span<const std::byte> cb = take(num_chroma());
    const std::span<const std::byte> cr = take(num_chroma());
    const auto width = static_cast<std::size_t>(format_.width);
    for (std::size_t i = 0; i < luma.size(); ++i) {
      const std::size_t chroma_idx = i / width / block_ * chroma_width() + i % width / block_;
      const auto color = ycbcr_to_rgb(
          {static_cast<std::uint8_t>(luma[i]), static_cast<std::uint8_t>(cb[chroma_idx]),
           static_cast<std::uint8_t>(cr[chroma_idx])},
          range_);
      std::ranges::copy(color, rgb.begin() + static_cast<std::ptrdiff_t>(3 * i));
    }
    return true;
  }

  std::int64_t count_frames() override {
    const std::size_t position = offset_;
    std::int64_t num_frames = 0;
    while (skip_frame()) ++num_frames;
    offset_ = position;
    return num_frames;
  }

 private:
  std::size_t num_pixels() const {
    return static_cast<std::size_t>(format_.width) * static_cast<std::size_t>(format_.height);
  }
  std::size_t chroma_width() const {
    return (static_cast<std::size_t>(format_.width) + block_ - 1) / block_;
  }
  std::size_t num_chroma() const {
    return chroma_width() * ((static_cast<std::size_t>(format_.height) + block_ - 1) / block_);
  }

  void parse_field(char key, std::string_view value) {
    if (key == 'W') format_.width = parse_number(value);
    if (key == 'H') format_.height = parse_number(value);
    if (key == 'F') parse_rate(value);
    if (key == 'A') parse_aspect(value);
    if (key == 'I' && (value == "t" || value == "b" || value == "m")) note_interlaced(source_);
    if (key == 'X' && value == "COLORRANGE=FULL") range_ = ColorRange::kFull;
    if (key != 'C') return;
    block_ = block_of(value);
    if (block_ == 0) {
      fail("{}: wanted C420 or C444, found C{} (ffmpeg and ffprobe, if installed, read it)",
           source_, value);
    }
  }

  void parse_rate(std::string_view value) {
    const std::optional<FrameRate> rate = parse_stream_rate(value, ':');
    if (!rate) fail("{}: frame rate '{}'", source_, value);
    format_.fps = *rate;
  }

  void parse_aspect(std::string_view value) {  // 0:0 is "not known"
    const std::optional<FrameRate> aspect = parse_stream_rate(value, ':');
    if (aspect) pixel_aspect_ = aspect->value();
  }

  std::string_view next_line() {
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
    const std::size_t end = text.find('\n', offset_);
    if (end == std::string_view::npos) fail("{}: truncated at byte {}", source_, offset_);
    const std::string_view line = text.substr(offset_, end - offset_);
    offset_ = end + 1;
    return line;
  }

  void next_frame_line() {
    const std::size_t begin = offset_;
    if (!next_line().starts_with("FRAME")) fail("{}: no frame at byte {}", source_, begin);
  }

  bool skip_frame() {
    if (offset_ == bytes_.size()) return false;
    next_frame_line();
    take(num_pixels() + 2 * num_chroma());
    return true;
  }

  std::span<const std::byte> take(std::size_t num_bytes) {
    if (num_bytes > bytes_.size() - offset_) {
      fail("{}: truncated frame at byte {}", source_, offset_);
    }
    offset_ += num_bytes;
    return bytes_.subspan(offset_ - num_bytes, num_bytes);
  }

  MappedFile file_;  // none where the bytes are another's
  std::span<const std::byte> bytes_;
  std::string source_;
  std::size_t offset_ = 0;
  std::size_t block_ = 2;
  ColorRange range_ = ColorRange::kLimited;
};

}  // namespace

std::optional<std::string> foreign_y4m_layout(const fs::path& path) {
  constexpr std::size_t kMaxHeader = 1024;
  std::string header(kMaxHeader, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  header.resize(static_cast<std::size_t>(file.gcount()));
  std::optional<std::string> foreign;
  const std::string_view line = std::string_view(header).substr(0, header.find('\n'));
  visit_fields(line, [&foreign](char key, std::string_view value) {
    if (key == 'C' && block_of(value) == 0) foreign = std::string(value);
  });
  return foreign;
}

std::unique_ptr<VideoReader> make_y4m_reader(const fs::path& path, const ReadStart& start) {
  return std::make_unique<Y4mReader>(MappedFile(path), start);
}

std::unique_ptr<VideoReader> make_y4m_reader(std::span<const std::byte> bytes, const fs::path& name,
                                             const ReadStart& start) {
  return std::make_unique<Y4mReader>(bytes, name, start);
}

}  // namespace mochi
