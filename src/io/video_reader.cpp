#include "io/video_reader.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/subprocess.h"
#include "io/color.h"
#include "io/image.h"
#include "io/json.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxSide = 1 << 15;

// 0 unless the text begins with a number that fits.
int parse_number(std::string_view text) {
  int number = 0;
  std::from_chars(std::to_address(text.begin()), std::to_address(text.end()), number);
  return number;
}

// The numbers of "a<separator>b", or of "a" with b = 1.
FrameRate parse_fraction(std::string_view text, char separator, const std::string& source) {
  FrameRate rate{parse_number(text), 1};
  const std::size_t split = text.find(separator);
  if (split != std::string_view::npos) rate.denominator = parse_number(text.substr(split + 1));
  if (rate.numerator < 1 || rate.denominator < 1) fail("{}: frame rate '{}'", source, text);
  return rate;
}

void check_size(const VideoFormat& format, const std::string& source) {
  const bool is_valid = format.width >= 1 && format.height >= 1 && format.width <= kMaxSide &&
                        format.height <= kMaxSide;
  if (!is_valid) fail("{}: frame size {}x{}", source, format.width, format.height);
}

class Y4mReader final : public VideoReader {
 public:
  explicit Y4mReader(const fs::path& path) : file_(path), source_(path.string()) {
    const std::string_view header = next_line();
    if (!header.starts_with("YUV4MPEG2 ")) fail("{}: not a y4m file", source_);
    std::string_view rest = header.substr(header.find(' ') + 1);
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      parse_field(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    check_size(format_, source_);
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (offset_ == file_.bytes().size()) return false;
    if (!next_line().starts_with("FRAME")) fail("{}: no frame at byte {}", source_, offset_);
    const auto width = static_cast<std::size_t>(format_.width);
    const auto height = static_cast<std::size_t>(format_.height);
    const std::size_t chroma_width = (width + block_ - 1) / block_;
    const std::size_t num_chroma = chroma_width * ((height + block_ - 1) / block_);
    const std::span<const std::byte> luma = take(width * height);
    const std::span<const std::byte> cb = take(num_chroma);
    const std::span<const std::byte> cr = take(num_chroma);
    for (std::size_t i = 0; i < luma.size(); ++i) {
      const std::size_t chroma_idx = i / width / block_ * chroma_width + i % width / block_;
      const auto color = ycbcr_to_rgb({static_cast<std::uint8_t>(luma[i]),
                                       static_cast<std::uint8_t>(cb[chroma_idx]),
                                       static_cast<std::uint8_t>(cr[chroma_idx])});
      std::ranges::copy(color, rgb.begin() + static_cast<std::ptrdiff_t>(3 * i));
    }
    return true;
  }

 private:
  void parse_field(std::string_view field) {
    if (field.empty()) return;
    const std::string_view value = field.substr(1);
    if (field[0] == 'W') format_.width = parse_number(value);
    if (field[0] == 'H') format_.height = parse_number(value);
    if (field[0] == 'F') format_.fps = parse_fraction(value, ':', source_);
    if (field[0] != 'C') return;
    const bool is_420 =
        value == "420" || value == "420jpeg" || value == "420mpeg2" || value == "420paldv";
    if (!is_420 && value != "444") fail("{}: wanted C420 or C444, found C{}", source_, value);
    block_ = is_420 ? 2 : 1;
  }

  std::string_view next_line() {
    const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()),
                                file_.bytes().size());
    const std::size_t end = text.find('\n', offset_);
    if (end == std::string_view::npos) fail("{}: truncated at byte {}", source_, offset_);
    const std::string_view line = text.substr(offset_, end - offset_);
    offset_ = end + 1;
    return line;
  }

  std::span<const std::byte> take(std::size_t num_bytes) {
    if (num_bytes > file_.bytes().size() - offset_) {
      fail("{}: truncated frame at byte {}", source_, offset_);
    }
    offset_ += num_bytes;
    return file_.bytes().subspan(offset_ - num_bytes, num_bytes);
  }

  MappedFile file_;
  std::string source_;
  std::size_t offset_ = 0;
  std::size_t block_ = 2;  // pixels per chroma sample in each direction
};

class PngFolderReader final : public VideoReader {
 public:
  explicit PngFolderReader(const fs::path& folder) {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".png") files_.push_back(entry.path());
    }
    if (files_.empty()) fail("folder '{}' holds no PNG file", folder.string());
    std::ranges::sort(files_);
    const Image first = read_png(files_.front());
    format_.width = first.width;
    format_.height = first.height;
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (next_idx_ == files_.size()) return false;
    const fs::path& file = files_[next_idx_++];
    const Image image = read_png(file);
    if (image.width != format_.width || image.height != format_.height) {
      fail("'{}': wanted {}x{} pixels like the first frame, found {}x{}", file.string(),
           format_.width, format_.height, image.width, image.height);
    }
    std::ranges::copy(image.rgb, rgb.begin());
    return true;
  }

 private:
  std::vector<fs::path> files_;
  std::size_t next_idx_ = 0;
};

VideoFormat probe_format(const fs::path& path) {
  const std::string source = path.string();
  const Json probe = parse_json(
      run_program({"ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
                   "stream=width,height,r_frame_rate", "-of", "json", "-i", "file:" + source}),
      "ffprobe of " + source);
  const Json& streams = probe.contains("streams") ? probe["streams"] : Json::array();
  if (streams.empty()) fail("'{}' holds no video", source);
  JsonReader stream(streams[0], "ffprobe of " + source, "streams");
  VideoFormat format;
  format.width =
      static_cast<int>(std::clamp<std::int64_t>(stream.require_int("width"), 0, kMaxSide + 1));
  format.height =
      static_cast<int>(std::clamp<std::int64_t>(stream.require_int("height"), 0, kMaxSide + 1));
  format.fps = parse_fraction(stream.require_string("r_frame_rate"), '/', source);
  check_size(format, source);
  return format;
}

class FfmpegReader final : public VideoReader {
 public:
  explicit FfmpegReader(const fs::path& path)
      : source_(path.string()),
        ffmpeg_({"ffmpeg", "-v", "error", "-noautorotate", "-i", "file:" + source_, "-map", "0:v:0",
                 "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"},
                {.from_stdout = true}) {
    format_ = probe_format(path);
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (is_at_end_) return false;
    const std::size_t num_read = ffmpeg_.read_some(std::as_writable_bytes(rgb));
    if (num_read == rgb.size()) return true;
    is_at_end_ = true;
    const int exit_code = ffmpeg_.wait();
    if (num_read != 0 || exit_code != 0) {
      fail("cannot read '{}': ffmpeg ended early (exit code {}): {}", source_, exit_code,
           ffmpeg_.first_stderr_line());
    }
    return false;
  }

 private:
  std::string source_;
  Subprocess ffmpeg_;
  bool is_at_end_ = false;
};

}  // namespace

void VideoReader::check_frame_size(std::span<const std::uint8_t> rgb) const {
  if (rgb.size() != format_.frame_bytes()) {
    fail("cannot read a frame: wanted room for {} bytes, found {}", format_.frame_bytes(),
         rgb.size());
  }
}

std::unique_ptr<VideoReader> make_video_reader(const fs::path& path) {
  if (!fs::exists(path)) fail("cannot open '{}': no such file or folder", path.string());
  if (fs::is_directory(path)) return std::make_unique<PngFolderReader>(path);
  if (path.extension() == ".y4m") return std::make_unique<Y4mReader>(path);
  if (!find_program("ffmpeg") || !find_program("ffprobe")) {
    fail(
        "cannot read '{}': the programs ffmpeg and ffprobe were not found; install them (Debian, "
        "Ubuntu: apt install ffmpeg), or give a .y4m file or a folder of PNG files",
        path.string());
  }
  return std::make_unique<FfmpegReader>(path);
}

}  // namespace mochi
