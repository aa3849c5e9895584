// Blocks that the encoder and the decoder share. All convolutions are causal in time: the first
// frame is repeated as its own past, and later chunks of a video bring their past in a cache.
#pragma once

#include <cstdint>
#include <span>

#include "vae/vae_weights.h"

namespace mochi::vae {

constexpr std::int64_t kRgb = 3;  // channels of a frame

// Number of past frames that a convolution over three frames reads.
constexpr std::int64_t kNumPastFrames = 2;

// The last input frames of a residual block's two convolutions, with halo.
struct ResBlockCache {
  TensorView conv1, conv2;  // cache_shape()
};

// [kNumPastFrames, rows + 2, columns + 2, channels] for x [frames, rows, columns, channels].
Shape cache_shape(const Shape& x);

// Returns the number of frames of `frame_elements` to process at a time, so that scratch memory
// stays small compared with the video.
std::int64_t frames_per_slice(const Backend& backend, std::int64_t frame_elements);

// x [T, H, W, C] += conv2(silu(norm2(conv1(silu(norm1(x)))))). Reads the past from `cache` unless
// the video starts with x, and stores the new past there.
void run_res_block(Context& ctx, const ResBlockWeights& weights, std::int64_t norm_groups,
                   const ResBlockCache& cache, bool is_start, const TensorView& x);

// out [..., out_channels] = weight · x [..., in_channels] + bias at every pixel, or += with
// `accumulate`. weight is [out_channels, in_channels] or the weight of a 1×1×1 convolution.
void run_pixelwise(Context& ctx, const TensorView& x, const TensorView& weight,
                   const TensorView& bias, const TensorView& out, bool accumulate = false);

// Copies a host vector to the backend's memory, as F32.
Tensor upload_vector(Backend& backend, std::span<const double> values);

}  // namespace mochi::vae
