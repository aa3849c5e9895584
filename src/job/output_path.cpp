#include "job/output_path.h"

#include <fmt/format.h>

#include <cctype>
#include <string_view>

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

// Lower-case ASCII letters and digits, everything else a single dash; cut at the end of a word.
std::string slug_of(std::string_view text) {
  constexpr std::size_t kMaxLength = 48;
  std::string slug;
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < 0x80 && std::isalnum(byte) != 0) {
      slug.push_back(static_cast<char>(std::tolower(byte)));
    } else if (!slug.empty() && slug.back() != '-') {
      slug.push_back('-');
    }
  }
  if (slug.size() > kMaxLength) {
    const std::size_t dash = slug.rfind('-', kMaxLength);
    slug.resize(dash == std::string::npos ? kMaxLength : dash);
  }
  while (!slug.empty() && slug.back() == '-') slug.pop_back();
  return slug.empty() ? "video" : slug;
}

// "frames/" has an empty file name: the slash goes.
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path append(const fs::path& output, const char* ending) {
  fs::path path = without_slash(output);
  path += ending;
  return path;
}

bool is_present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

}  // namespace

fs::path numbered_output_path(const fs::path& folder, const std::string& text, std::uint64_t seed,
                              int number) {
  const std::string suffix = number > 1 ? fmt::format("-{}", number) : "";
  return folder / fmt::format("{}-{}{}.mp4", slug_of(text), seed, suffix);
}

fs::path sidecar_path(const fs::path& output) { return append(output, ".json"); }

fs::path checkpoint_path(const fs::path& output) {
  return append(output, ".checkpoint.safetensors");
}

fs::path rescue_path(const fs::path& output) { return append(output, ".latents.safetensors"); }

fs::path unused_path(const fs::path& path) {
  if (!is_present(path)) return path;
  for (int number = 2;; ++number) {
    fs::path other = path;
    other.replace_filename(
        fmt::format("{}-{}{}", path.stem().string(), number, path.extension().string()));
    if (!is_present(other)) return other;
  }
}

fs::path output_of_checkpoint(const fs::path& checkpoint, const fs::path& recorded_output) {
  const fs::path output = checkpoint.parent_path() / without_slash(recorded_output).filename();
  return recorded_output.has_filename() ? output : output / "";
}

}  // namespace mochi::job
