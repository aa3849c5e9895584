#include "dit/lora_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "dit/lora_alpha.h"

namespace mochi {
namespace {

enum class Part : std::uint8_t { kDown, kUp, kAlpha };

struct Ending {
  std::string_view text;
  Part part;
};

// genmo's, peft's, peft's inside a model, other trainers', diffusers' older ones.
constexpr std::array kEndings{
    Ending{".lora_A", Part::kDown},
    Ending{".lora_B", Part::kUp},
    Ending{".lora_A.weight", Part::kDown},
    Ending{".lora_B.weight", Part::kUp},
    Ending{".lora_A.default.weight", Part::kDown},
    Ending{".lora_B.default.weight", Part::kUp},
    Ending{".lora_down.weight", Part::kDown},
    Ending{".lora_up.weight", Part::kUp},
    Ending{".lora.down.weight", Part::kDown},
    Ending{".lora.up.weight", Part::kUp},
    Ending{".alpha", Part::kAlpha},
};

const Ending* find_ending(std::string_view name) {
  const auto* const found = std::ranges::find_if(
      kEndings, [name](const Ending& ending) { return name.ends_with(ending.text); });
  return found == kEndings.end() ? nullptr : found;
}

struct ForeignKind {
  std::string_view part;  // a part of a tensor's name
  const char* name;
};

// Changes of weights that are no plain LoRA.
constexpr std::array kForeignKinds{
    ForeignKind{".dora_scale", "DoRA"},
    ForeignKind{".lora_magnitude_vector", "DoRA"},
    ForeignKind{".hada_w", "LoHa"},
    ForeignKind{".hada_t", "LoHa"},
    ForeignKind{".lokr_", "LoKr"},
    ForeignKind{".lora_mid", "LoCon (a Tucker decomposition)"},
    ForeignKind{".lora_embedding_", "LoRA of an embedding"},
    ForeignKind{".oft_", "OFT"},
    ForeignKind{".boft_", "BOFT"},
    ForeignKind{".ia3_", "IA3"},
    ForeignKind{".diff", "full difference of weights"},
    ForeignKind{".bias", "LoRA with biases"},
};

const ForeignKind* find_foreign_kind(std::string_view name) {
  const auto* const found = std::ranges::find_if(kForeignKinds, [name](const ForeignKind& kind) {
    return name.find(kind.part) != std::string_view::npos;
  });
  return found == kForeignKinds.end() ? nullptr : found;
}

[[noreturn]] void fail_unknown(const std::string& name, const std::string& file_name) {
  if (const ForeignKind* kind = find_foreign_kind(name)) {
    fail("tensor '{}' in '{}' belongs to a {}, which is not supported: wanted a plain LoRA", name,
         file_name, kind->name);
  }
  const std::size_t lora = name.find(".lora");
  const std::string stem = name.substr(0, lora != std::string::npos ? lora : name.rfind('.'));
  std::vector<std::string> known;
  known.reserve(kEndings.size());
  for (const Ending& ending : kEndings) known.push_back(stem + std::string(ending.text));
  fail("tensor '{}' in '{}' is no part of a LoRA, did you mean '{}'?", name, file_name,
       nearest_name(name, known));
}

// Names in the file of the tensors of one layer.
struct Parts {
  std::string down, up, alpha;

  std::string& of(Part part) {
    if (part == Part::kAlpha) return alpha;
    return part == Part::kDown ? down : up;
  }
};

std::map<std::string, Parts> group_by_module(const Checkpoint& checkpoint,
                                             const std::string& file_name) {
  std::map<std::string, Parts> groups;
  for (const std::string& name : checkpoint.names()) {
    const Ending* ending = find_ending(name);
    if (ending == nullptr) fail_unknown(name, file_name);
    const std::string_view stem =
        std::string_view(name).substr(0, name.size() - ending->text.size());
    std::string& part = groups[strip_lora_prefixes(stem)].of(ending->part);
    if (!part.empty()) {
      fail("tensors '{}' and '{}' in '{}' are the same part of a LoRA", part, name, file_name);
    }
    part = name;
  }
  if (groups.empty()) fail("'{}' holds no tensors of a LoRA", file_name);
  return groups;
}

void check_complete(const Parts& parts, const std::string& file_name) {
  if (!parts.down.empty() && !parts.up.empty()) return;
  const std::string& found = parts.down.empty() ? parts.up : parts.down;
  fail("tensor '{}' in '{}' has no matching lora_{}", found.empty() ? parts.alpha : found,
       file_name, parts.down.empty() ? "A (lora_down)" : "B (lora_up)");
}

LoraLayer make_layer(const Checkpoint& checkpoint, const LoraAlphas& alphas,
                     const std::string& module, const Parts& parts) {
  LoraLayer layer{.module = module, .down_name = parts.down, .up_name = parts.up};
  const Shape down = checkpoint.require_rank(parts.down, 2);
  const Shape up = checkpoint.require_rank(parts.up, 2);
  layer.rank = down[0];
  if (layer.rank < 1 || up[1] != layer.rank) {
    fail("tensor '{}' in '{}': wanted {} columns for the rows of '{}' {}, found {}", parts.up,
         checkpoint.file_of(parts.up).string(), std::max<std::int64_t>(layer.rank, 1), parts.down,
         down.to_string(), up.to_string());
  }
  const std::optional<double> stated =
      parts.alpha.empty() ? alphas.find(module, layer.rank) : checkpoint.number(parts.alpha);
  const auto rank = static_cast<double>(layer.rank);
  layer.has_alpha = stated.has_value();
  layer.alpha = stated.value_or(rank);
  const bool is_root = stated && alphas.is_rank_stabilised();
  layer.strength = layer.alpha / (is_root ? std::sqrt(rank) : rank);
  if (!std::isfinite(layer.strength)) {
    fail("'{}': wanted a finite alpha of '{}', found {}", checkpoint.file_of(parts.down).string(),
         module, layer.alpha);
  }
  return layer;
}

}  // namespace

LoraFile::LoraFile(std::shared_ptr<const Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)), name_(checkpoint_->files().front().string()) {
  const LoraAlphas alphas(*checkpoint_);
  for (const auto& [module, parts] : group_by_module(*checkpoint_, name_)) {
    check_complete(parts, name_);
    layers_.push_back(make_layer(*checkpoint_, alphas, module, parts));
  }
}

LoraFile LoraFile::open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    fail("LoRA '{}': wanted a .safetensors file, found a folder", path.string());
  }
  return LoraFile(Checkpoint::open(path));
}

bool holds_lora(const TensorSource& source) {
  return std::ranges::any_of(source.names(), [](const std::string& name) {
    const Ending* ending = find_ending(name);
    if (ending != nullptr) return ending->part != Part::kAlpha;
    const ForeignKind* kind = find_foreign_kind(name);
    return kind != nullptr && kind->part != ".bias" && kind->part != ".diff";
  });
}

}  // namespace mochi
