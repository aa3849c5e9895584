#include "dit/lora_names.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace mochi {
namespace {

// Prefixes that libraries put before the names of the network's layers, in any combination.
constexpr std::array<std::string_view, 4> kPrefixes{"base_model.model.", "transformer.",
                                                    "diffusion_model.", "model."};

// Prefixes of names with underscores instead of dots: kohya's, OneTrainer's, LyCORIS'.
constexpr std::array<std::string_view, 3> kFlatPrefixes{"lora_unet_", "lora_transformer_",
                                                        "lycoris_"};

// The text that may follow the name of a part.
enum class Tail : std::uint8_t {
  kNone,
  kAdapter,  // nothing, or ".<adapter>" as inside a model of peft
  kWeight,   // nothing, ".weight" or ".<adapter>.weight"
  kAnyOf,    // any of these
  kBias,     // ".bias" or ".<adapter>.bias"
};

struct PartSpelling {
  std::string_view text;
  LoraPart part;
  Tail tail;
};

// genmo's and peft's; other trainers'; diffusers' older ones; LyCORIS'; ComfyUI's.
constexpr std::array kParts{
    PartSpelling{".lora_A", LoraPart::kDown, Tail::kWeight},
    PartSpelling{".lora_B", LoraPart::kUp, Tail::kWeight},
    PartSpelling{".lora_B", LoraPart::kUpBias, Tail::kBias},
    PartSpelling{".lora_down.weight", LoraPart::kDown, Tail::kNone},
    PartSpelling{".lora_up.weight", LoraPart::kUp, Tail::kNone},
    PartSpelling{".lora.down.weight", LoraPart::kDown, Tail::kNone},
    PartSpelling{".lora.up.weight", LoraPart::kUp, Tail::kNone},
    PartSpelling{".lora_magnitude_vector", LoraPart::kMagnitude, Tail::kAnyOf},
    PartSpelling{".dora_scale", LoraPart::kDoraScale, Tail::kNone},
    PartSpelling{".hada_w1_a", LoraPart::kHada1A, Tail::kAdapter},
    PartSpelling{".hada_w1_b", LoraPart::kHada1B, Tail::kAdapter},
    PartSpelling{".hada_w2_a", LoraPart::kHada2A, Tail::kAdapter},
    PartSpelling{".hada_w2_b", LoraPart::kHada2B, Tail::kAdapter},
    PartSpelling{".lokr_w1", LoraPart::kLokr1, Tail::kAdapter},
    PartSpelling{".lokr_w1_a", LoraPart::kLokr1A, Tail::kAdapter},
    PartSpelling{".lokr_w1_b", LoraPart::kLokr1B, Tail::kAdapter},
    PartSpelling{".lokr_w2", LoraPart::kLokr2, Tail::kAdapter},
    PartSpelling{".lokr_w2_a", LoraPart::kLokr2A, Tail::kAdapter},
    PartSpelling{".lokr_w2_b", LoraPart::kLokr2B, Tail::kAdapter},
    PartSpelling{".diff", LoraPart::kDiff, Tail::kNone},
    PartSpelling{".w_norm", LoraPart::kDiff, Tail::kNone},
    PartSpelling{".diff_b", LoraPart::kBiasDiff, Tail::kNone},
    PartSpelling{".b_norm", LoraPart::kBiasDiff, Tail::kNone},
    PartSpelling{".alpha", LoraPart::kAlpha, Tail::kNone},
};

// Returns true if `text` is a dot and a word without dots that is not "weight" or "bias".
bool is_adapter(std::string_view text) {
  return text.size() > 1 && text.front() == '.' && text.find('.', 1) == std::string_view::npos &&
         text != ".weight" && text != ".bias";
}

// Returns true if `text` is `ending`, perhaps with an adapter's name before it.
bool is_ending(std::string_view text, std::string_view ending) {
  if (!text.ends_with(ending)) return false;
  text.remove_suffix(ending.size());
  return text.empty() || is_adapter(text);
}

bool matches(Tail tail, std::string_view text) {
  switch (tail) {
    case Tail::kNone:
      return text.empty();
    case Tail::kAdapter:
      return text.empty() || is_adapter(text);
    case Tail::kWeight:
      return text.empty() || is_ending(text, ".weight");
    case Tail::kAnyOf:
      return matches(Tail::kAdapter, text) || matches(Tail::kWeight, text);
    case Tail::kBias:
      return is_ending(text, ".bias");
  }
  return false;
}

struct SplitName {
  std::string_view module, part_text, tail;
  LoraPart part = LoraPart::kDown;
};

std::optional<SplitName> split(std::string_view name) {
  for (const PartSpelling& spelling : kParts) {
    const std::size_t found = name.rfind(spelling.text);
    if (found == std::string_view::npos || found == 0) continue;
    const std::string_view tail = name.substr(found + spelling.text.size());
    if (!matches(spelling.tail, tail)) continue;
    return SplitName{name.substr(0, found), spelling.text, tail, spelling.part};
  }
  return std::nullopt;
}

// Without a prefix that one library alone writes, the words of the part decide.
LoraSpelling spelling_of(const SplitName& name) {
  if (name.module.starts_with("lycoris_")) return LoraSpelling::kLycoris;
  if (strip_flat_prefix(name.module)) return LoraSpelling::kKohya;
  if (name.module.starts_with("diffusion_model.")) return LoraSpelling::kComfyUi;
  if (name.module.starts_with("base_model.")) return LoraSpelling::kPeft;
  if (name.module.starts_with("transformer.")) return LoraSpelling::kDiffusers;
  if (name.part_text.starts_with(".lora_A") || name.part_text.starts_with(".lora_B")) {
    return name.tail.empty() ? LoraSpelling::kGenmo : LoraSpelling::kPeft;
  }
  if (name.part == LoraPart::kMagnitude) return LoraSpelling::kPeft;
  return name.part_text.starts_with(".lora") ? LoraSpelling::kKohya : LoraSpelling::kLycoris;
}

struct ForeignKind {
  std::string_view text;
  std::string_view name;
};

constexpr std::string_view kTextEncoderLora = "LoRA of a text encoder";

// Beginnings of names of other networks' layers.
constexpr std::array kForeignNetworks{
    ForeignKind{"lora_te_", kTextEncoderLora},     ForeignKind{"lora_te1_", kTextEncoderLora},
    ForeignKind{"lora_te2_", kTextEncoderLora},    ForeignKind{"lora_te3_", kTextEncoderLora},
    ForeignKind{"text_encoder", kTextEncoderLora}, ForeignKind{"text_model.", kTextEncoderLora},
    ForeignKind{"t5xxl.", kTextEncoderLora},       ForeignKind{"bundle_emb.", "text embedding"},
    ForeignKind{"unet.", "LoRA of a U-Net"},       ForeignKind{"vae.", "LoRA of a VAE"},
};

// Changes of weights that are not supported, by a part of a tensor's name.
constexpr std::array kForeignKinds{
    ForeignKind{".hada_t", "LoHa of a convolution (a Tucker decomposition)"},
    ForeignKind{".lokr_t", "LoKr of a convolution (a Tucker decomposition)"},
    ForeignKind{".lora_mid", "LoCon (a Tucker decomposition)"},
    ForeignKind{".lora_embedding_", "LoRA of an embedding"},
    ForeignKind{".lora_E", "AdaLoRA"},
    ForeignKind{".ranknum", "AdaLoRA"},
    ForeignKind{".vera_", "VeRA"},
    ForeignKind{".oft_", "OFT"},
    ForeignKind{".boft_", "BOFT"},
    ForeignKind{".ia3_", "IA3"},
    ForeignKind{".on_input", "IA3"},
    ForeignKind{".a1.weight", "GLoRA"},
    ForeignKind{".a2.weight", "GLoRA"},
    ForeignKind{".b1.weight", "GLoRA"},
    ForeignKind{".b2.weight", "GLoRA"},
    ForeignKind{".set_weight", "replacement of whole weights"},
    ForeignKind{".reshape_weight", "LoRA that changes a weight's shape"},
    ForeignKind{".bias", "LoRA with biases of its base model"},
};

std::string_view foreign_network(std::string_view name) {
  const std::string stripped = strip_lora_prefixes(name);
  const auto* const found = std::ranges::find_if(kForeignNetworks, [&](const ForeignKind& network) {
    return name.starts_with(network.text) || stripped.starts_with(network.text);
  });
  return found == kForeignNetworks.end() ? "" : found->name;
}

const ForeignKind* find_foreign_kind(std::string_view name) {
  const auto* const found = std::ranges::find_if(kForeignKinds, [name](const ForeignKind& kind) {
    return name.find(kind.text) != std::string_view::npos;
  });
  return found == kForeignKinds.end() ? nullptr : found;
}

// Returns the names that a tensor of the layer `stem` may have.
std::vector<std::string> known_names(const std::string& stem) {
  std::vector<std::string> names;
  for (const PartSpelling& spelling : kParts) {
    const std::string name = stem + std::string(spelling.text);
    if (spelling.tail == Tail::kBias) {
      names.push_back(name + ".bias");
      continue;
    }
    names.push_back(name);
    if (spelling.tail == Tail::kWeight) names.push_back(name + ".weight");
  }
  return names;
}

}  // namespace

std::string_view lora_part_name(LoraPart part) {
  if (part == LoraPart::kDown) return "lora_A (lora_down)";
  if (part == LoraPart::kUp) return "lora_B (lora_up)";
  const auto* const found = std::ranges::find(kParts, part, &PartSpelling::part);
  return found->text.substr(1);
}

std::string_view lora_spelling_name(LoraSpelling spelling) {
  constexpr std::array<std::string_view, 6> kNames{"genmo",   "PEFT",  "diffusers",
                                                   "ComfyUI", "kohya", "LyCORIS"};
  return kNames[static_cast<std::size_t>(spelling)];
}

std::optional<LoraName> parse_lora_name(std::string_view name) {
  if (!foreign_network(name).empty()) return std::nullopt;
  const std::optional<SplitName> found = split(name);
  if (!found) return std::nullopt;
  return LoraName{strip_lora_prefixes(found->module), found->part, spelling_of(*found)};
}

std::string_view foreign_lora_kind(std::string_view name) {
  if (const std::string_view network = foreign_network(name); !network.empty()) return network;
  const ForeignKind* const kind = find_foreign_kind(name);
  return kind == nullptr ? "" : kind->name;
}

void fail_foreign_lora(const std::string& name, const std::string& file_name) {
  if (const std::string_view kind = foreign_lora_kind(name); !kind.empty()) {
    fail(
        "tensor '{}' in '{}' belongs to a {}, which is not supported: wanted LoRA, DoRA, LoHa, "
        "LoKr or differences of the transformer's layers",
        name, file_name, kind);
  }
  const std::size_t lora = name.find(".lora");
  const std::string stem = name.substr(0, lora != std::string::npos ? lora : name.rfind('.'));
  fail("tensor '{}' in '{}' is no part of a LoRA, did you mean '{}'?", name, file_name,
       nearest_name(name, known_names(stem)));
}

bool is_lora_name(std::string_view name) {
  if (const std::optional<SplitName> found = split(name)) return found->part != LoraPart::kAlpha;
  const ForeignKind* const kind = find_foreign_kind(name);
  return kind != nullptr && kind->text != ".bias" && !kind->text.ends_with(".weight");
}

std::string strip_lora_prefixes(std::string_view module) {
  for (bool is_stripped = true; is_stripped;) {
    is_stripped = false;
    for (const std::string_view prefix : kPrefixes) {
      if (!module.starts_with(prefix)) continue;
      module.remove_prefix(prefix.size());
      is_stripped = true;
    }
  }
  return std::string(module);
}

std::optional<std::string_view> strip_flat_prefix(std::string_view module) {
  for (const std::string_view prefix : kFlatPrefixes) {
    if (module.starts_with(prefix)) return module.substr(prefix.size());
  }
  return std::nullopt;
}

}  // namespace mochi
