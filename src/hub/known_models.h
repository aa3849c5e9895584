// The models whose files this program knows.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
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

// The two large networks in one precision.
struct KnownWeights {
  std::string_view precision;  // as the command line spells it
  KnownFile transformer;
  KnownFile text_encoder;
};

struct KnownModel {
  std::string_view name;
  std::string_view summary;
  std::string_view licence;           // the transformer's; empty: see its page
  std::vector<KnownWeights> weights;  // the default precision first
  KnownFile decoder;
  KnownFile tokenizer;
  // Only for `mochi encode`; without a repository if it is in the decoder's file.
  KnownFile encoder = {};
};

enum class KnownPart : std::uint8_t {
  kTransformer,  // "transformer"
  kTextEncoder,  // "text-encoder"
  kDecoder,      // "decoder"
  kTokenizer,    // "tokenizer"
  kEncoder       // "encoder"
};
std::string_view name_of(KnownPart part);
std::optional<KnownPart> parse_known_part(std::string_view name);
// All parts that generating a video needs.
inline const std::set<KnownPart> kCompleteModel{KnownPart::kTransformer, KnownPart::kTextEncoder,
                                                KnownPart::kDecoder, KnownPart::kTokenizer};

std::span<const KnownModel> known_models();

// Throws InvalidRequest("model") that lists the known names.
const KnownModel& find_known_model(std::string_view name);

// Returns the files of these parts of a model; an empty precision stands for the default. Throws
// InvalidRequest("precision") that lists the model's precisions if this one is not among them.
std::vector<KnownFile> files_of(const KnownModel& model, std::string_view precision,
                                const std::set<KnownPart>& parts);

}  // namespace mochi::hub
