#include "job/bundled.h"

#include <sys/auxv.h>

#include <array>
#include <string>

#include "base/error.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

// Returns the program's own file. Without /proc, as in some chroots, the name it was started by is
// used.
fs::path find_program_file() {
  std::error_code error;
  fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) return program;
  const auto* const started = reinterpret_cast<const char*>(  // NOLINT(performance-no-int-to-ptr)
      ::getauxval(AT_EXECFN));
  return started != nullptr ? fs::weakly_canonical(started, error) : fs::path();
}

// The first of these files, relative to the program's folder, that exists.
fs::path find_next_to_program(const std::array<const char*, 3>& files, const char* what,
                              const char* field) {
  std::error_code error;
  const fs::path program = find_program_file();
  std::string places;
  for (const char* file : files) {
    const fs::path path = (program.parent_path() / file).lexically_normal();
    if (fs::exists(path, error)) return path;
    places += fmt::format("{}'{}'", places.empty() ? "" : ", ", path.parent_path().string());
  }
  throw InvalidRequest(
      field,
      fmt::format("is not given, and none comes with the program: no {} in {}", what, places));
}

}  // namespace

fs::path find_bundled_model() {
  return find_next_to_program(
             {"../../models/micro/config.json", "../share/mochi/models/micro/config.json",
              "../models/micro/config.json"},
             "config.json", "model_dir")
      .parent_path();
}

fs::path find_bundled_sparsity() {
  return find_next_to_program(
      {"../../chipmunk-config.yml", "../share/mochi/chipmunk-config.yml", "../chipmunk-config.yml"},
      "chipmunk-config.yml", "chipmunk_config");
}

void choose_model(EngineOptions& options) {
  const bool has_sizes = options.random_weights == RandomWeights::kMochi1Preview;
  if (options.model_dir.empty() && !has_any(options.paths) && !has_sizes)
    options.model_dir = find_bundled_model();
}

}  // namespace mochi::job
