// A folder of frame_00000.png, frame_00001.png, ... and a hidden file that marks it as the
// program's own, which a later video may replace.
#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <fstream>
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

constexpr std::string_view kFramePrefix = "frame_";

std::string frame_name(std::int64_t idx) { return fmt::format("{}{:05}.png", kFramePrefix, idx); }

bool is_frame_name(const std::string& name) {
  if (!name.starts_with(kFramePrefix)) return false;
  std::int64_t idx = -1;
  std::from_chars(name.data() + kFramePrefix.size(), name.data() + name.size(), idx);
  return idx >= 0 && name == frame_name(idx);
}

// Returns true if a file is a PNG as encode_png() writes them: 8 bits of RGB, one chunk of pixels,
// no other chunk, and the first bytes of its compressor. Other programs' frames differ in that.
bool is_own_png(const fs::path& path) {
  constexpr std::size_t kIhdrEnd = 33;     // signature and first chunk
  constexpr std::size_t kChunkBytes = 12;  // length, name and checksum of a chunk
  constexpr std::size_t kHeadBytes = kIhdrEnd + 8 + 2;
  std::array<char, kHeadBytes> head{};
  std::ifstream file(path, std::ios::binary);
  if (!file.read(head.data(), head.size())) return false;
  const std::string_view text(head.data(), head.size());
  const auto byte = [&](std::size_t idx) { return static_cast<unsigned char>(head[idx]); };
  constexpr std::size_t kDepth = 24;
  const std::size_t idat_bytes = std::size_t{byte(kIhdrEnd)} << 24U | byte(kIhdrEnd + 1) << 16U |
                                 byte(kIhdrEnd + 2) << 8U | byte(kIhdrEnd + 3);
  std::error_code ignored;
  return text.substr(1, 3) == "PNG" && byte(kDepth) == 8 && byte(kDepth + 1) == 2 &&
         text.substr(kIhdrEnd + 4) == "IDAT\x78\x5e" &&
         fs::file_size(path, ignored) == kIhdrEnd + kChunkBytes + idat_bytes + kChunkBytes;
}

[[noreturn]] void fail_foreign(const fs::path& folder, const fs::path& entry) {
  fail(
      "cannot replace folder '{}': it holds '{}', which this program did not write (remove the "
      "folder or give another name)",
      folder.string(), entry.filename().string());
}

// A folder may be replaced when it is empty or holds an earlier video's frames and nothing else.
void check_replaceable(const fs::path& path) {
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) {
    fail("cannot write a folder '{}': a file of that name exists (for a video file give {})",
         path.string(), describe_video_endings());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const bool may_go = entry.is_regular_file() &&
                        is_frame_name(entry.path().filename().string()) && is_own_png(entry.path());
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
    if (error)
      fail("cannot make folder '{}': {}", target_.path().string(), describe_errno(error.value()));
  }

 private:
  void encode_frame(std::span<const std::uint8_t> rgb) override {
    const std::string name = frame_name(num_frames());
    write_new_file(target_.temp_path() / name, encode_png(format().width, format().height, rgb),
                   target_.path() / name);
  }

  void finish_file() override {
    check_replaceable(target_.path());
    target_.commit_over_folder();
  }

  AtomicPath target_;
};

}  // namespace

std::unique_ptr<VideoWriter> make_png_folder_writer(const fs::path& path,
                                                    const VideoFormat& format) {
  return std::make_unique<PngFolderWriter>(path, format);
}

}  // namespace mochi
