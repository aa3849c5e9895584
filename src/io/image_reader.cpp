// Folders of PNG and JPEG files, and single ones.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "io/file_name.h"
#include "io/image.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// "frame_12.png" is number 12 after "frame_".
struct Numbered {
  std::string prefix;
  std::int64_t number = -1;  // -1: the name does not end with a number
};

Numbered parse_name(const fs::path& path) {
  const std::string stem = path.stem().string();
  const std::size_t last = stem.find_last_not_of("0123456789");
  const std::size_t begin = last == std::string::npos ? 0 : last + 1;
  Numbered result{stem.substr(0, begin), -1};
  std::int64_t number = 0;
  const auto [rest, error] =
      std::from_chars(stem.data() + begin, stem.data() + stem.size(), number);
  if (error == std::errc()) result.number = number;
  return result;
}

// Images in the order of their numbers; hidden files and everything else are passed over.
std::vector<fs::path> list_images(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const bool is_hidden = entry.path().filename().string().starts_with('.');
    std::error_code ignored;
    if (!is_hidden && has_image_ending(entry.path()) && !entry.is_directory(ignored)) {
      files.push_back(entry.path());
    }
  }
  if (error) fail("cannot read folder '{}': {}", folder.string(), describe_errno(error.value()));
  if (files.empty()) fail("folder '{}' holds no PNG or JPEG file", folder.string());
  const auto stem = [](const fs::path& path) { return path.stem().string(); };
  std::ranges::sort(files, natural_less, stem);
  const auto twin = std::ranges::adjacent_find(
      files, [](const auto& a, const auto& b) { return !natural_less(a, b); }, stem);
  if (twin != files.end()) {
    fail("folder '{}': '{}' and '{}' have one place in the order of frames", folder.string(),
         twin->filename().string(), std::next(twin)->filename().string());
  }
  return files;
}

// The first place where numbers go up by more than they do elsewhere; empty if there is none.
std::string describe_gap(const fs::path& folder, const std::vector<fs::path>& files) {
  std::vector<Numbered> names;
  std::ranges::transform(files, std::back_inserter(names), parse_name);
  const auto step = [&](std::size_t i) {
    const bool is_pair = names[i - 1].prefix == names[i].prefix && names[i - 1].number >= 0;
    return is_pair ? names[i].number - names[i - 1].number : 0;
  };
  std::int64_t smallest = 0;
  for (std::size_t i = 1; i < files.size(); ++i) {
    if (step(i) > 0 && (smallest == 0 || step(i) < smallest)) smallest = step(i);
  }
  for (std::size_t i = 1; i < files.size(); ++i) {
    if (step(i) <= smallest) continue;
    return fmt::format("folder '{}': frames are missing between '{}' and '{}'", folder.string(),
                       files[i - 1].filename().string(), files[i].filename().string());
  }
  return "";
}

class ImageReader final : public VideoReader {
 public:
  ImageReader(const fs::path& path, const ReadStart& start)
      : files_(fs::is_directory(path) ? list_images(path) : std::vector{path}) {
    if (start.seconds > 0) {
      fail("'{}': images have no times; give the number of the first frame", path.string());
    }
    next_idx_ = static_cast<std::size_t>(std::min(start.frame, std::ssize(files_)));
    const Image first = read_image(files_[std::min(next_idx_, files_.size() - 1)]);
    format_.width = first.width;
    format_.height = first.height;
    has_rate_ = false;
    std::string gap = describe_gap(path, files_);
    if (!gap.empty()) notes_.push_back(std::move(gap));
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (next_idx_ == files_.size()) return false;
    const fs::path& file = files_[next_idx_++];
    const Image image = read_image(file);
    if (image.width != format_.width || image.height != format_.height) {
      fail("'{}': wanted {}x{} pixels like the first frame, found {}x{}", file.string(),
           format_.width, format_.height, image.width, image.height);
    }
    std::ranges::copy(image.rgb, rgb.begin());
    return true;
  }

  std::int64_t count_frames() override {
    return std::ssize(files_) - static_cast<std::int64_t>(next_idx_);
  }

 private:
  std::vector<fs::path> files_;
  std::size_t next_idx_ = 0;
};

}  // namespace

std::unique_ptr<VideoReader> make_image_reader(const fs::path& path, const ReadStart& start) {
  return std::make_unique<ImageReader>(path, start);
}

}  // namespace mochi
