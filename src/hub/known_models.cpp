#include "hub/known_models.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <ranges>

#include "base/error.h"

namespace mochi::hub {
namespace {

constexpr std::string_view kGenmo = "genmo/mochi-1-preview";
constexpr std::string_view kComfy = "Comfy-Org/mochi_preview_repackaged";

constexpr std::string_view kT5Gguf = "city96/t5-v1_1-xxl-encoder-gguf";

// Mochi 1's transformer.
constexpr KnownFile kDit{kGenmo, "dit.safetensors", "dit.safetensors"};
constexpr KnownFile kDitBf16{kComfy, "split_files/diffusion_models/mochi_preview_bf16.safetensors",
                             "diffusion_models/mochi_preview_bf16.safetensors", 20'055'467'768,
                             "e445b9b393c70c431543b062cc16ee29b5dc4dc187487fa3e1f5a4b6162c8be1"};
constexpr KnownFile kDitFp8{kComfy,
                            "split_files/diffusion_models/mochi_preview_fp8_scaled.safetensors",
                            "dit.fp8_scaled.safetensors", 10'028'084'160,
                            "8a6475b5380c90461a40d5c08ad574a5ad5ac4e6047e5f5f3f294df363f50705"};
constexpr KnownFile kDitQ8{"Kijai/Mochi_preview_comfy", "mochi_preview_dit_GGUF_Q8_0.safetensors",
                           "dit.q8_0.safetensors"};
constexpr KnownFile kDitQ4{"calcuis/mochi-gguf", "mochi-q4_k_m.gguf", "dit.q4_k_m.gguf"};

// T5-XXL's encoder, which all models share.
constexpr KnownFile kText{kComfy, "split_files/text_encoders/t5xxl_fp16.safetensors",
                          "t5xxl_fp16.safetensors", 9'787'841'024,
                          "6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635"};
constexpr KnownFile kTextFp8{kComfy,
                             "split_files/text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors",
                             "t5xxl_fp8_e4m3fn_scaled.safetensors"};
constexpr KnownFile kTextQ8{kT5Gguf, "t5-v1_1-xxl-encoder-Q8_0.gguf",
                            "t5-v1_1-xxl-encoder-Q8_0.gguf", 5'061'584'064,
                            "9ec60f6028534b7fe5af439fcb535d75a68592a9ca3fcdeb175ef89e3ee99825"};
constexpr KnownFile kTextQ4{kT5Gguf, "t5-v1_1-xxl-encoder-Q4_K_M.gguf",
                            "t5-v1_1-xxl-encoder-Q4_K_M.gguf", 2'896'123'072,
                            "6be2b0b7e2de7cf2919340c88cb802a103a997ce46c53131cec91958c1db1af4"};

constexpr KnownFile kTokenizer{kGenmo, "tokenizer/spiece.model", "tokenizer/spiece.model"};
constexpr KnownFile kDecoder{kGenmo, "decoder.safetensors", "decoder.safetensors"};
constexpr KnownFile kEncoder{kGenmo, "encoder.safetensors", "encoder.safetensors"};
constexpr KnownFile kComfyVae{kComfy, "split_files/vae/mochi_vae.safetensors",
                              "vae/mochi_vae.safetensors"};

constexpr KnownFile with_target(KnownFile file, std::string_view target) {
  file.target = target;
  return file;
}

KnownModel mochi() {
  return {.name = "mochi-1-preview",
          .summary = "Mochi 1",
          .licence = "Apache-2.0",
          .weights = {{"bf16", kDit, kText},
                      {"fp8", kDitFp8, kTextFp8},
                      {"q8_0", kDitQ8, kTextQ8},
                      {"q4_k", kDitQ4, kTextQ4}},
          .decoder = kDecoder,
          .tokenizer = kTokenizer,
          .encoder = kEncoder};
}

KnownModel fastmochi() {
  return {.name = "fastmochi",
          .summary = "FastMochi, distilled to 8 steps (--num-steps 8 --cfg-scale 1.5)",
          .licence = "",
          .weights = {{"bf16",
                       {"FastVideo/FastMochi", "dit.safetensors", "dit.fast.safetensors"},
                       kText}},
          .decoder = kDecoder,
          .tokenizer = kTokenizer,
          .encoder = kEncoder};
}

KnownModel pusa() {
  return {.name = "pusa",
          .summary = "Pusa V0.5, with a noise level for each frame",
          .licence = "",
          .weights = {{"bf16",
                       {"RaphaelLiu/Pusa-V0.5", "pusa_v0_dit.safetensors", "dit.pusa.safetensors"},
                       kText}},
          .decoder = kDecoder,
          .tokenizer = kTokenizer,
          .encoder = kEncoder};
}

// The files of Mochi 1 where ComfyUI looks for them.
KnownModel comfyui() {
  return {
      .name = "comfyui",
      .summary = "Mochi 1 for ComfyUI's folder models",
      .licence = "",
      .weights = {{"bf16", kDitBf16, with_target(kText, "text_encoders/t5xxl_fp16.safetensors")},
                  {"fp8",
                   with_target(kDitFp8, "diffusion_models/mochi_preview_fp8_scaled.safetensors"),
                   with_target(kTextFp8, "text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors")},
                  {"q8_0",
                   with_target(kDitQ8, "diffusion_models/mochi_preview_dit_GGUF_Q8_0.safetensors"),
                   with_target(kTextQ8, "text_encoders/t5-v1_1-xxl-encoder-Q8_0.gguf")},
                  {"q4_k", with_target(kDitQ4, "diffusion_models/mochi-q4_k_m.gguf"),
                   with_target(kTextQ4, "text_encoders/t5-v1_1-xxl-encoder-Q4_K_M.gguf")}},
      .decoder = kComfyVae,
      .tokenizer = kTokenizer};
}

const std::vector<KnownModel>& table() {
  static const std::vector<KnownModel> s_models{mochi(), fastmochi(), pusa(), comfyui()};
  return s_models;
}

constexpr std::array<std::string_view, 5> kPartNames{"transformer", "text-encoder", "decoder",
                                                     "tokenizer", "encoder"};

const KnownFile& file_of(const KnownModel& model, const KnownWeights& weights, KnownPart part) {
  switch (part) {
    case KnownPart::kTransformer:
      return weights.transformer;
    case KnownPart::kTextEncoder:
      return weights.text_encoder;
    case KnownPart::kDecoder:
      return model.decoder;
    case KnownPart::kTokenizer:
      return model.tokenizer;
    case KnownPart::kEncoder:
      break;
  }
  return model.encoder;
}

}  // namespace

std::string_view name_of(KnownPart part) { return kPartNames.at(static_cast<std::size_t>(part)); }

std::optional<KnownPart> parse_known_part(std::string_view name) {
  const auto* const found = std::ranges::find(kPartNames, name);
  if (found == kPartNames.end()) return std::nullopt;
  return static_cast<KnownPart>(found - kPartNames.begin());
}

std::span<const KnownModel> known_models() { return table(); }

const KnownModel& find_known_model(std::string_view name) {
  const auto found = std::ranges::find(table(), name, &KnownModel::name);
  if (found != table().end()) return *found;
  std::vector<std::string_view> names;
  for (const KnownModel& model : table()) names.push_back(model.name);
  refuse("model", "wanted {} or OWNER/REPO[@REVISION], found '{}'", fmt::join(names, ", "), name);
}

std::vector<KnownFile> files_of(const KnownModel& model, std::string_view precision,
                                const std::set<KnownPart>& parts) {
  const auto found = precision.empty()
                         ? model.weights.begin()
                         : std::ranges::find(model.weights, precision, &KnownWeights::precision);
  if (found == model.weights.end()) {
    const auto names = std::views::transform(model.weights, &KnownWeights::precision);
    refuse("precision", "wanted {} for '{}', found '{}'", fmt::join(names, ", "), model.name,
           precision);
  }
  std::vector<KnownFile> files;
  for (const KnownPart part : parts) {
    const KnownFile& file = file_of(model, *found, part);
    if (!file.repository.empty()) files.push_back(file);
  }
  // The encoder may be in the decoder's file.
  const bool is_in_decoder =
      parts.contains(KnownPart::kEncoder) && model.encoder.repository.empty();
  if (is_in_decoder && !parts.contains(KnownPart::kDecoder)) files.push_back(model.decoder);
  return files;
}

}  // namespace mochi::hub
