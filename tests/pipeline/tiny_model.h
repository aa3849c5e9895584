// A model folder of the usual layout with tiny random networks, for tests of whole runs.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/noise.h"
#include "dit/dit_weights.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "pipeline/model_config.h"
#include "text/t5_weights.h"
#include "vae/vae_weights.h"

namespace mochi {

inline const char* const kTinyConfig = R"({
 "model_type": "mochi",
 "dit": {"depth": 2, "num_heads": 2, "hidden_size_x": 32, "hidden_size_y": 16, "mlp_hidden_x": 48,
         "mlp_hidden_y": 24, "patch_size": 2, "latent_channels": 12, "text_width": 24,
         "max_text_tokens": 32, "timestep_features": 256, "pooler_heads": 8},
 "text_encoder": {"num_layers": 2, "hidden_size": 24, "num_heads": 2, "head_dim": 8,
         "feed_forward_size": 32, "num_buckets": 32, "max_distance": 128, "vocab_size": 320},
 "vae": {"norm_groups": 4, "decoder_channels": [16, 12, 8, 8], "decoder_res_blocks": [1, 1, 1, 1, 1],
         "encoder_channels": [8, 12, 12, 16], "encoder_res_blocks": [1, 1, 1, 1, 1],
         "encoder_attention_head_dim": 4},
 "generation": {"width": 64, "height": 48, "num_frames": 13, "fps": 24, "num_steps": 4,
         "cfg_scale": 4.5, "threshold_noise": 0.025, "linear_steps": 2, "negative_prompt": ""}
})";

struct TinyTensor {
  std::string name;
  Shape shape;
  std::vector<float> values;
};

// Random values of a spread that keeps activations near 1; norm weights around 1.
template <typename W>
std::vector<TinyTensor> random_tensors(W weights, std::uint64_t seed) {
  std::vector<TinyTensor> tensors;
  for (const auto& [name, shape] : list_parameters(std::move(weights))) {
    TinyTensor tensor{name, shape,
                      std::vector<float>(static_cast<std::size_t>(shape.num_elements()))};
    fill_normal(NoiseSource::kMochi, seed++, tensor.values);
    const bool is_norm = shape.rank() == 1 && name.ends_with("weight");
    const auto fan_in = static_cast<float>(shape.num_elements() / shape[0]);
    const float spread = shape.rank() == 1 ? 0.1F : 1.0F / std::sqrt(fan_in);
    for (float& value : tensor.values) value = value * spread + (is_norm ? 1.0F : 0.0F);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

inline void write_tensors(const std::filesystem::path& path,
                          const std::vector<TinyTensor>& tensors) {
  std::filesystem::create_directories(path.parent_path());
  std::vector<NamedTensor> named;
  for (const TinyTensor& tensor : tensors) {
    named.push_back(
        {tensor.name, DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))});
  }
  write_safetensors(path, named);
}

// T5 checkpoints store the two halves of wi apart.
inline std::vector<TinyTensor> split_gates(const std::vector<TinyTensor>& tensors) {
  const std::string joined = ".wi.weight";
  std::vector<TinyTensor> split;
  for (const TinyTensor& tensor : tensors) {
    if (!tensor.name.ends_with(joined)) {
      split.push_back(tensor);
      continue;
    }
    const std::string stem = tensor.name.substr(0, tensor.name.size() - joined.size());
    const Shape half{tensor.shape[0] / 2, tensor.shape[1]};
    const auto middle = tensor.values.begin() + half.num_elements();
    split.push_back({stem + ".wi_0.weight", half, {tensor.values.begin(), middle}});
    split.push_back({stem + ".wi_1.weight", half, {middle, tensor.values.end()}});
  }
  return split;
}

// Writes the tensors to two files and their index.
inline void write_sharded(const std::filesystem::path& folder, const std::string& stem,
                          const std::vector<TinyTensor>& tensors) {
  const auto middle = tensors.begin() + std::ssize(tensors) / 2;
  const std::vector<TinyTensor> parts[] = {{tensors.begin(), middle}, {middle, tensors.end()}};
  Json index{{"metadata", Json::object()}, {"weight_map", Json::object()}};
  for (int part = 0; part < 2; ++part) {
    const std::string name = stem + "-0000" + std::to_string(part + 1) + "-of-00002.safetensors";
    write_tensors(folder / name, parts[part]);
    for (const TinyTensor& tensor : parts[part]) index["weight_map"][tensor.name] = name;
  }
  std::ofstream(folder / (stem + ".safetensors.index.json")) << index.dump(1);
}

// `tokenizer` is a spiece.model of at most 320 pieces.
inline void write_tiny_model(const std::filesystem::path& folder,
                             const std::filesystem::path& tokenizer, bool is_sharded = false) {
  std::filesystem::create_directories(folder / "tokenizer");
  std::ofstream(folder / "config.json") << kTinyConfig;
  std::filesystem::copy_file(tokenizer, folder / "tokenizer" / "spiece.model");
  const ModelConfig config = read_model_config(folder / "config.json");
  const auto dit = random_tensors(DitWeights(config.dit), 1000);
  const auto text = split_gates(random_tensors(T5Weights(config.text_encoder), 2000));
  if (is_sharded) {
    write_sharded(folder, "dit", dit);
    std::filesystem::create_directories(folder / "text_encoder");
    write_sharded(folder / "text_encoder", "model", text);
  } else {
    write_tensors(folder / "dit.safetensors", dit);
    write_tensors(folder / "text_encoder" / "model.safetensors", text);
  }
  write_tensors(folder / "decoder.safetensors",
                random_tensors(VaeDecoderWeights(config.vae), 3000));
  write_tensors(folder / "encoder.safetensors",
                random_tensors(VaeEncoderWeights(config.vae), 4000));
}

}  // namespace mochi
