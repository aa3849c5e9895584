// A folder of frame_00000.png, frame_00001.png, ... and a hidden file that marks it as the
// program's own, which a later video may replace.
#include <fmt/core.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/image.h"
#include "io/video_writers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarkName = ".mochi-frames";
constexpr std::string_view kMark = "frames written by mochi: ";

constexpr std::string_view kFramePrefix = "frame_";

std::string frame_name(std::int64_t idx) { return fmt::format("{}{:05}.png", kFramePrefix, idx); }

// How many frames the program wrote into the folder; nothing for a folder without the mark.
std::optional<std::int64_t> marked_frames(const fs::path& folder) {
  std::ifstream file(folder / kMarkName);
  std::string text;
  std::getline(file, text);
  std::int64_t num_frames = 0;
  if (!text.starts_with(kMark)) return std::nullopt;
  const char* const begin = text.data() + kMark.size();
  const auto [rest, error] = std::from_chars(begin, text.data() + text.size(), num_frames);
  return error == std::errc() ? std::optional(num_frames) : std::nullopt;
}

// Whether a file is one of the program's own in a folder that is marked with so many frames.
bool is_own(const std::string& name, std::int64_t num_frames) {
  if (name == kMarkName) return true;
  if (!name.starts_with(kFramePrefix)) return false;
  std::int64_t idx = -1;
  std::from_chars(name.data() + kFramePrefix.size(), name.data() + name.size(), idx);
  return idx >= 0 && idx < num_frames && name == frame_name(idx);
}

[[noreturn]] void fail_foreign(const fs::path& folder, const fs::path& entry) {
  fail(
      "cannot replace folder '{}': it holds '{}', which this program did not write (remove the "
      "folder or give another name)",
      folder.string(), entry.filename().string());
}

// A folder may be replaced when it is empty, or when it has the mark and holds an earlier video's
// frames and nothing else.
void check_replaceable(const fs::path& path) {
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) {
    fail("cannot write a folder '{}': a file of that name exists (for a video file give {})",
         path.string(), describe_video_endings());
  }
  const std::int64_t num_frames = marked_frames(path).value_or(0);
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const bool may_go =
        entry.is_regular_file() && is_own(entry.path().filename().string(), num_frames);
    if (!may_go) fail_foreign(path, entry.path());
  }
}

class PngFolderWriter final : public VideoWriter {
 public:
  PngFolderWriter(const fs::path& path, const VideoFormat& format)
      : VideoWriter(path, format), target_(path) {
    check_replaceable(target_.path());
    std::error_code error;
    fs::create_directory(target_.temp_path(), error);
    if (error) fail("cannot make folder '{}': {}", target_.path().string(), error.message());
  }

 private:
  void encode_frame(std::span<const std::uint8_t> rgb) override {
    write_file(frame_name(num_frames()), encode_png(format().width, format().height, rgb));
  }

  void finish_file() override {
    write_file(kMarkName, fmt::format("{}{}\n", kMark, num_frames()));
    check_replaceable(target_.path());
    target_.commit_over_folder();
  }

  void write_file(const std::string& name, const std::string& content) const {
    errno = 0;
    std::ofstream out(target_.temp_path() / name, std::ios::binary);  // synced with the folder
    out << content << std::flush;
    if (!out) {
      fail("cannot write '{}': {}", (target_.path() / name).string(), std::strerror(errno));
    }
  }

  AtomicPath target_;
};

}  // namespace

std::unique_ptr<VideoWriter> make_png_folder_writer(const fs::path& path,
                                                    const VideoFormat& format) {
  return std::make_unique<PngFolderWriter>(path, format);
}

}  // namespace mochi
