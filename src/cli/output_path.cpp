#include "cli/output_path.h"

#include <sys/auxv.h>

#include <array>
#include <cctype>
#include <string_view>

#include "base/error.h"

namespace mochi::cli {
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
fs::path beside(const fs::path& output, const char* ending) {
  fs::path path = output.has_filename() ? output : output.parent_path();
  path += ending;
  return path;
}

// The program's own file. Where /proc is not mounted (in a bare chroot), the kernel's note of what
// it has started tells.
fs::path find_program_file() {
  std::error_code error;
  fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) return program;
  const auto* const started = reinterpret_cast<const char*>(  // NOLINT(performance-no-int-to-ptr)
      ::getauxval(AT_EXECFN));
  return started != nullptr ? fs::weakly_canonical(started, error) : fs::path();
}

// The first of these files, seen from the program's folder, that exists.
fs::path find_beside_program(const std::array<const char*, 3>& files, const char* what,
                             const char* flag) {
  std::error_code error;
  const fs::path program = find_program_file();
  std::string places;
  for (const char* file : files) {
    const fs::path path = (program.parent_path() / file).lexically_normal();
    if (fs::exists(path, error)) return path;
    places += fmt::format("{}'{}'", places.empty() ? "" : ", ", path.parent_path().string());
  }
  fail("no {} found in {}; give one with {}", what, places, flag);
}

}  // namespace

fs::path numbered_output_path(const fs::path& folder, const std::string& text, std::uint64_t seed,
                              int number) {
  const std::string suffix = number > 1 ? fmt::format("-{}", number) : "";
  return folder / fmt::format("{}-{}{}.mp4", slug_of(text), seed, suffix);
}

fs::path default_output_path(const fs::path& folder, const std::string& text, std::uint64_t seed,
                             const std::set<fs::path>& taken) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("cannot make the folder '{}': {}", folder.string(), error.message());
  for (int number = 1;; ++number) {
    fs::path path = numbered_output_path(folder, text, seed, number);
    if (!fs::exists(path) && !taken.contains(path)) return path;
  }
}

fs::path sidecar_path(const fs::path& output) { return beside(output, ".json"); }

fs::path checkpoint_path(const fs::path& output) {
  return beside(output, ".checkpoint.safetensors");
}

fs::path find_boxed_model() {
  return find_beside_program(
             {"../../models/micro/config.json", "../share/mochi/models/micro/config.json",
              "../models/micro/config.json"},
             "model", "--model-dir")
      .parent_path();
}

fs::path find_boxed_sparsity() {
  return find_beside_program(
      {"../../chipmunk-config.yml", "../share/mochi/chipmunk-config.yml", "../chipmunk-config.yml"},
      "chipmunk-config.yml", "--chipmunk-config");
}

}  // namespace mochi::cli
