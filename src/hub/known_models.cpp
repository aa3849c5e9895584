#include "hub/known_models.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"

namespace mochi::hub {
namespace {

constexpr std::string_view kGenmo = "genmo/mochi-1-preview";
constexpr std::string_view kComfy = "Comfy-Org/mochi_preview_repackaged";

// Files in ComfyUI's repository, which lie in folders of its own.
constexpr std::string_view kComfyDit =
    "split_files/diffusion_models/mochi_preview_bf16.safetensors";
constexpr std::uint64_t kComfyDitBytes = 20'055'467'768;
constexpr std::string_view kComfyDitSha256 =
    "e445b9b393c70c431543b062cc16ee29b5dc4dc187487fa3e1f5a4b6162c8be1";
constexpr std::string_view kComfyDitFp8 =
    "split_files/diffusion_models/mochi_preview_fp8_scaled.safetensors";
constexpr std::uint64_t kComfyDitFp8Bytes = 10'028'084'160;
constexpr std::string_view kComfyDitFp8Sha256 =
    "8a6475b5380c90461a40d5c08ad574a5ad5ac4e6047e5f5f3f294df363f50705";
constexpr std::string_view kComfyT5 = "split_files/text_encoders/t5xxl_fp16.safetensors";
constexpr std::uint64_t kComfyT5Bytes = 9'787'841'024;
constexpr std::string_view kComfyT5Sha256 =
    "6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635";
constexpr std::string_view kComfyT5Fp8 =
    "split_files/text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors";
constexpr std::string_view kComfyVae = "split_files/vae/mochi_vae.safetensors";

// Networks that several models share.
constexpr KnownFile kText{kComfy, kComfyT5, "t5xxl_fp16.safetensors", kComfyT5Bytes,
                          kComfyT5Sha256};
constexpr KnownFile kTextFp8{kComfy, kComfyT5Fp8, "t5xxl_fp8_e4m3fn_scaled.safetensors"};
constexpr KnownFile kTokenizer{kGenmo, "tokenizer/spiece.model", "tokenizer/spiece.model"};
constexpr KnownFile kDecoder{kGenmo, "decoder.safetensors", "decoder.safetensors"};
constexpr KnownFile kEncoder{kGenmo, "encoder.safetensors", "encoder.safetensors"};

const std::vector<KnownModel>& table() {
  static const std::vector<KnownModel> s_models{
      {.name = "mochi-1-preview",
       .summary = "Mochi 1",
       .licence = "Apache-2.0",
       .transformer = {kGenmo, "dit.safetensors", "dit.safetensors"},
       .text_encoder = kText,
       .others = {kDecoder, kTokenizer},
       .transformer_fp8 = {kComfy, kComfyDitFp8, "dit.fp8_scaled.safetensors", kComfyDitFp8Bytes,
                           kComfyDitFp8Sha256},
       .text_encoder_fp8 = kTextFp8,
       .video_encoder = kEncoder},
      {.name = "fastmochi",
       .summary = "FastMochi, distilled to 8 steps (--num-steps 8 --cfg-scale 1.5)",
       .licence = "",
       .transformer = {"FastVideo/FastMochi", "dit.safetensors", "dit.fast.safetensors"},
       .text_encoder = kText,
       .others = {kDecoder, kTokenizer},
       .video_encoder = kEncoder},
      {.name = "pusa",
       .summary = "Pusa V0.5, with a noise level for each frame",
       .licence = "",
       .transformer = {"RaphaelLiu/Pusa-V0.5", "pusa_v0_dit.safetensors", "dit.pusa.safetensors"},
       .text_encoder = kText,
       .others = {kDecoder, kTokenizer},
       .video_encoder = kEncoder},
      {.name = "comfyui",
       .summary = "Mochi 1 for ComfyUI's folder models",
       .licence = "",
       .transformer = {kComfy, kComfyDit, "diffusion_models/mochi_preview_bf16.safetensors",
                       kComfyDitBytes, kComfyDitSha256},
       .text_encoder = {kComfy, kComfyT5, "text_encoders/t5xxl_fp16.safetensors", kComfyT5Bytes,
                        kComfyT5Sha256},
       .others = {{kComfy, kComfyVae, "vae/mochi_vae.safetensors"}, kTokenizer},
       .transformer_fp8 = {kComfy, kComfyDitFp8,
                           "diffusion_models/mochi_preview_fp8_scaled.safetensors",
                           kComfyDitFp8Bytes, kComfyDitFp8Sha256},
       .text_encoder_fp8 = {kComfy, kComfyT5Fp8,
                            "text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors"}},
  };
  return s_models;
}

}  // namespace

std::span<const KnownModel> known_models() { return table(); }

const KnownModel& find_known_model(std::string_view name) {
  const auto found = std::ranges::find(table(), name, &KnownModel::name);
  if (found != table().end()) return *found;
  std::vector<std::string_view> names;
  for (const KnownModel& model : table()) names.push_back(model.name);
  refuse("model", "wanted {} or OWNER/REPO[@REVISION], found '{}'", fmt::join(names, ", "), name);
}

std::vector<KnownFile> files_of(const KnownModel& model, WeightPrecision precision,
                                bool with_encoder) {
  const bool is_fp8 = precision == WeightPrecision::kFp8;
  if (is_fp8 && model.transformer_fp8.repository.empty()) {
    refuse("precision", "'{}' is available as bf16 only", model.name);
  }
  std::vector<KnownFile> files{is_fp8 ? model.transformer_fp8 : model.transformer,
                               is_fp8 ? model.text_encoder_fp8 : model.text_encoder};
  files.insert(files.end(), model.others.begin(), model.others.end());
  if (with_encoder && !model.video_encoder.repository.empty()) files.push_back(model.video_encoder);
  return files;
}

}  // namespace mochi::hub
