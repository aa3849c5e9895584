#include "io/video_reader.h"

#include <cerrno>
#include <charconv>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/subprocess.h"
#include "io/file_name.h"
#include "io/image.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// Throws unless the path is a folder or a regular file that can be opened.
void check_source(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found && fs::is_symlink(path, error)) {
    fail("cannot open '{}': it is a link to '{}', which does not exist", path.string(),
         fs::read_symlink(path, error).string());
  }
  if (status.type() == fs::file_type::not_found) {
    fail("cannot open '{}': no such file or folder", path.string());
  }
  if (fs::is_directory(status)) return;
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    fail("cannot read '{}': neither a regular file nor a folder", path.string());
  }
  errno = 0;
  if (!std::ifstream(path, std::ios::binary)) {
    fail("cannot open '{}': {}", path.string(), describe_errno(errno));
  }
}

bool begins_with(const fs::path& path, std::string_view magic) {
  std::string head(magic.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  return head == magic;
}

}  // namespace

void VideoReader::check_frame_size(std::span<const std::uint8_t> rgb) const {
  if (rgb.size() != format_.frame_bytes()) {
    fail("cannot read a frame: wanted room for {} bytes, found {}", format_.frame_bytes(),
         rgb.size());
  }
}

void VideoReader::note_interlaced(const std::string& source) {
  notes_.push_back(source + ": it is interlaced; frames are read as stored, with both fields");
}

void check_frame_format(const VideoFormat& format, const std::string& source) {
  constexpr int kMaxSide = 1 << 15;
  const bool is_valid = format.width >= 1 && format.height >= 1 && format.width <= kMaxSide &&
                        format.height <= kMaxSide;
  if (!is_valid) {
    fail("{}: wanted a frame size of 1x1 to {}x{}, found {}x{}", source, kMaxSide, kMaxSide,
         format.width, format.height);
  }
}

std::optional<FrameRate> parse_stream_rate(std::string_view text, char separator) {
  const std::size_t split = text.find(separator);
  if (split == std::string_view::npos) return parse_frame_rate(text);
  std::string fraction(text);
  fraction[split] = '/';
  return parse_frame_rate(fraction);
}

std::unique_ptr<VideoReader> make_video_reader(const fs::path& path, const ReadStart& start,
                                               StopFn should_stop) {
  check_source(path);
  if (fs::is_directory(path) || has_image_ending(path)) return make_image_reader(path, start);
  if (begins_with(path, kY4mMagic)) {
    const bool has_ffmpeg = find_program("ffmpeg") && find_program("ffprobe");
    if (!has_ffmpeg || !foreign_y4m_layout(path)) return make_y4m_reader(path, start);
  } else if (lower_extension(path) == ".y4m") {
    return make_y4m_reader(path, start);  // for its error
  }
  return make_ffmpeg_reader(path, start, std::move(should_stop));
}

}  // namespace mochi
