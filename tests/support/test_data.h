// Paths of the files that tests read: in the source tree, or in MOCHI_TEST_DATA, which a bundle on
// another machine needs.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace mochi {

inline std::filesystem::path test_data(const char* in_source_tree, const char* name) {
  const char* folder = std::getenv("MOCHI_TEST_DATA");
  return folder == nullptr ? std::filesystem::path(in_source_tree)
                           : std::filesystem::path(folder) / name;
}
inline std::filesystem::path golden_folder() { return test_data(MOCHI_GOLDEN_DIR, "golden"); }
// A tokenizer of 320 pieces.
inline std::filesystem::path golden_tokenizer() {
  return golden_folder() / "tokenizer" / "spiece.model";
}
// The configuration that run.sh uses.
inline std::filesystem::path default_sparsity_file() {
  return test_data(MOCHI_SOURCE_DIR "/chipmunk-config.yml", "chipmunk-config.yml");
}
inline std::filesystem::path micro_model_folder() { return test_data(MOCHI_MICRO_DIR, "micro"); }

}  // namespace mochi
