#include "vae/vae_blocks.h"

#include <algorithm>
#include <vector>

namespace mochi::vae {
namespace {

// Fills frames 0 and 1 of `padded` from the cache or, at the start, with the first frame after
// them. Stores the last two frames in the cache.
void exchange_past(Context& ctx, const TensorView& padded, const TensorView& cache, bool is_start) {
  if (is_start) {
    const TensorView first = padded.rows(kNumPastFrames, kNumPastFrames + 1);
    for (std::int64_t i = 0; i < kNumPastFrames; ++i) {
      ctx.backend.copy(first, padded.rows(i, i + 1));
    }
  } else {
    ctx.backend.copy(cache, padded.rows(0, kNumPastFrames));
  }
  ctx.backend.copy(padded.rows(padded.dim(0) - kNumPastFrames, padded.dim(0)), cache);
}

GroupNorm norm_params(const NormWeights& weights, std::int64_t norm_groups) {
  return {.weight = weights.weight,
          .bias = weights.bias,
          .num_groups = static_cast<int>(norm_groups),
          .activation = Activation::kSilu};
}

void run_slice(Context& ctx, const ResBlockWeights& weights, std::int64_t norm_groups,
               const ResBlockCache& cache, bool is_start, const TensorView& x) {
  const Arena::Scope scope(ctx.scratch);
  const TensorView padded =
      ctx.activation({x.dim(0) + kNumPastFrames, x.dim(1) + 2, x.dim(2) + 2, x.dim(3)});
  const TensorView present = padded.rows(kNumPastFrames, padded.dim(0));
  const TensorView middle = ctx.activation(x.shape());
  ctx.backend.group_norm(x, norm_params(weights.norm1, norm_groups), present);
  exchange_past(ctx, padded, cache.conv1, is_start);
  ctx.backend.conv3d(
      padded, {.weight = weights.conv1.weight, .bias = weights.conv1.bias, .residual = {}}, middle);
  ctx.backend.group_norm(middle, norm_params(weights.norm2, norm_groups), present);
  exchange_past(ctx, padded, cache.conv2, is_start);
  ctx.backend.conv3d(
      padded, {.weight = weights.conv2.weight, .bias = weights.conv2.bias, .residual = x}, x);
}

}  // namespace

Shape cache_shape(const Shape& x) { return {kNumPastFrames, x[1] + 2, x[2] + 2, x[3]}; }

std::int64_t frames_per_slice(const Backend& backend, std::int64_t frame_elements) {
  const std::int64_t slice_elements = backend.preferred_chunks().slice_elements;
  return std::max<std::int64_t>(slice_elements / std::max<std::int64_t>(frame_elements, 1), 1);
}

void run_res_block(Context& ctx, const ResBlockWeights& weights, std::int64_t norm_groups,
                   const ResBlockCache& cache, bool is_start, const TensorView& x) {
  const std::int64_t num_frames = x.dim(0);
  const std::int64_t slice = frames_per_slice(ctx.backend, x.num_elements() / num_frames);
  for (std::int64_t begin = 0; begin < num_frames; begin += slice) {
    run_slice(ctx, weights, norm_groups, cache, is_start && begin == 0,
              x.rows(begin, std::min(begin + slice, num_frames)));
  }
}

void run_pixelwise(Context& ctx, const TensorView& x, const TensorView& weight,
                   const TensorView& bias, const TensorView& out, bool accumulate) {
  const std::int64_t in_channels = x.dim(x.rank() - 1);
  const std::int64_t out_channels = out.dim(out.rank() - 1);
  const std::int64_t num_pixels = x.num_elements() / in_channels;
  // A convolution instead of a matmul, because the rounding must not depend on the number of
  // pixels; otherwise a video would depend on its chunks.
  const TensorView target = out.reshape({1, 1, num_pixels, out_channels});
  ctx.backend.conv3d(x.reshape({1, 1, num_pixels, in_channels}),
                     {.weight = weight.reshape({out_channels, in_channels, 1, 1, 1}),
                      .bias = bias,
                      .residual = accumulate ? target : TensorView()},
                     target);
}

Tensor upload_vector(Backend& backend, std::span<const double> values) {
  std::vector<float> floats;
  for (const double value : values) floats.push_back(static_cast<float>(value));
  const Shape shape{static_cast<std::int64_t>(floats.size())};
  Tensor target(DType::kF32, shape, backend.allocator());
  backend.upload(TensorView(floats.data(), DType::kF32, shape), target);
  return target;
}

}  // namespace mochi::vae
