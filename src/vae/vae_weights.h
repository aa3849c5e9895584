// Parameters of the video VAE, under the names of the original checkpoints.
#pragma once

#include <string>
#include <vector>

#include "vae/vae_config.h"
#include "weights/weights.h"

namespace mochi {

struct NormWeights {
  TensorView weight, bias;  // [channels]

  void visit(const WeightVisitor& visitor, const std::string& prefix, std::int64_t channels);
};

struct ConvWeights {
  TensorView weight;  // [out_channels, in_channels, frames, rows, columns] matrix
  TensorView bias;    // [out_channels]

  void visit(const WeightVisitor& visitor, const std::string& prefix, const Shape& shape);
};

// x + conv(silu(norm(conv(silu(norm(x)))))). In the encoder, x + out(attention(qkv(norm(x)))) may
// follow.
struct ResBlockWeights {
  NormWeights norm1, norm2;
  ConvWeights conv1, conv2;  // 3×3×3

  void visit(const WeightVisitor& visitor, const std::string& prefix, std::int64_t channels);
};

struct AttentionBlockWeights {
  NormWeights norm;
  LinearWeights qkv, out;

  void visit(const WeightVisitor& visitor, const std::string& prefix, std::int64_t channels);
};

struct UpBlockWeights {
  std::vector<ResBlockWeights> res_blocks;
  LinearWeights proj;  // to (out_channels, frames, rows, columns) features
};

struct VaeDecoderWeights {
  explicit VaeDecoderWeights(const VaeConfig& config);

  VaeConfig config;
  ConvWeights input;  // 1×1×1
  std::vector<ResBlockWeights> input_blocks;
  std::vector<UpBlockWeights> up_blocks;
  std::vector<ResBlockWeights> output_blocks;
  LinearWeights output;

  void visit(const WeightVisitor& visitor);
};

struct EncoderStageWeights {
  ConvWeights down;  // strided; empty in the first and last stage
  std::vector<ResBlockWeights> res_blocks;
  std::vector<AttentionBlockWeights> attention_blocks;  // one after each residual block, or none
};

struct VaeEncoderWeights {
  explicit VaeEncoderWeights(const VaeConfig& config);

  VaeConfig config;
  LinearWeights input;
  std::vector<EncoderStageWeights> stages;
  NormWeights output_norm;
  LinearWeights output;  // to mean | logvar, no bias

  void visit(const WeightVisitor& visitor);
};

}  // namespace mochi
