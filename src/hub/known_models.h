// The models whose files this program knows.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "hub/repository.h"

namespace mochi::hub {

// A file of a known model. What is unknown (size 0, no checksum) is taken from the hub.
struct KnownFile {
  std::string_view repository;
  std::string_view path;    // inside the repository
  std::string_view target;  // below the folder, where the program finds it
  std::uint64_t size = 0;
  std::string_view sha256 = "";
};

struct KnownModel {
  std::string_view name;
  std::string_view summary;
  std::string_view licence;  // the transformer's; empty: see its page
  KnownFile transformer;
  KnownFile text_encoder;
  // Files of both precisions.
  std::vector<KnownFile> others;
  // These networks in 8 bits with scales; without a repository if none are known.
  KnownFile transformer_fp8 = {};
  KnownFile text_encoder_fp8 = {};
  // Only for `mochi encode`; without a repository if it is part of another file.
  KnownFile video_encoder = {};
};

enum class WeightPrecision : std::uint8_t { kBf16, kFp8 };

std::span<const KnownModel> known_models();

// Throws InvalidRequest("model") that lists the known names.
const KnownModel& find_known_model(std::string_view name);

// Returns the files of one complete model. Throws InvalidRequest("precision") if the model is not
// available in this precision.
std::vector<KnownFile> files_of(const KnownModel& model, WeightPrecision precision,
                                bool with_encoder);

}  // namespace mochi::hub
