// A folder of frame_00000.png, frame_00001.png, ...
#include <fmt/core.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/image.h"
#include "io/video_writers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

bool is_frame_file(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  return entry.is_regular_file() && name.starts_with("frame_") && name.ends_with(".png");
}

// A folder may be replaced when it is empty or holds an earlier video's frames and nothing else.
void check_replaceable(const fs::path& path) {
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) {
    fail(
        "cannot write a folder '{}': a file of that name exists (for a video file give .mp4, "
        ".webm, .gif or .y4m)",
        path.string());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    if (!is_frame_file(entry)) {
      fail("cannot replace folder '{}': it holds '{}', which is no frame of a video", path.string(),
           entry.path().filename().string());
    }
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
    const std::string name = fmt::format("frame_{:05}.png", num_frames());
    const std::string png = encode_png(format().width, format().height, rgb);
    errno = 0;
    std::ofstream out(target_.temp_path() / name, std::ios::binary);  // synced with the folder
    out << png << std::flush;
    if (!out) {
      fail("cannot write '{}': {}", (target_.path() / name).string(), std::strerror(errno));
    }
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
