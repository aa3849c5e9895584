// Names of the tensors of LoRA files: the layer, the part of its change, and whose spelling it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mochi {

// A part of a layer's change. Matrices are written as they multiply: up · down, w1_a · w1_b.
enum class LoraPart : std::uint8_t {
  kDown,
  kUp,
  kUpBias,
  kHada1A,
  kHada1B,
  kHada2A,
  kHada2B,
  kLokr1,
  kLokr1A,
  kLokr1B,
  kLokr2,
  kLokr2A,
  kLokr2B,
  kDiff,
  kBiasDiff,
  kMagnitude,  // PEFT's, one for each row of the weight
  kDoraScale,  // LyCORIS', one for each row or for each column, by its shape
  kAlpha,
};

// Returns the name that people know a part by: "lora_A (lora_down)", "hada_w1_a".
std::string_view lora_part_name(LoraPart part);

enum class LoraSpelling : std::uint8_t { kGenmo, kPeft, kDiffusers, kComfyUi, kKohya, kLycoris };

// Returns "genmo", "PEFT", "diffusers", "ComfyUI", "kohya" or "LyCORIS".
std::string_view lora_spelling_name(LoraSpelling spelling);

struct LoraName {
  std::string module;  // without prefixes: "blocks.0.attn.qkv_x", "lora_unet_blocks_0_attn_qkv_x"
  LoraPart part = LoraPart::kDown;
  LoraSpelling spelling = LoraSpelling::kGenmo;
};

// Returns nothing for the name of a tensor that is no part of a supported change.
std::optional<LoraName> parse_lora_name(std::string_view name);

// Returns what a tensor of this name belongs to ("GLoRA", "LoRA of a text encoder") if that is
// known and not supported; empty otherwise.
std::string_view foreign_lora_kind(std::string_view name);

// Throws Error about a tensor that is no part of a supported change.
[[noreturn]] void fail_foreign_lora(const std::string& name, const std::string& file_name);

// Returns true if a name belongs to a LoRA of any kind, supported or not.
bool is_lora_name(std::string_view name);

// The name of a module without what libraries put before it: "base_model.model.", "transformer.".
std::string strip_lora_prefixes(std::string_view module);

// Returns what stands after the prefix of names with underscores instead of dots ("lora_unet_");
// nothing for other names.
std::optional<std::string_view> strip_flat_prefix(std::string_view module);

}  // namespace mochi
