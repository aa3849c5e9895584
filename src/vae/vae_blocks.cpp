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
      ctx.run(ops::Copy{.source = first, .target = padded.rows(i, i + 1)});
    }
  } else {
    ctx.run(ops::Copy{.source = cache, .target = padded.rows(0, kNumPastFrames)});
  }
  ctx.run(ops::Copy{.source = padded.rows(padded.dim(0) - kNumPastFrames, padded.dim(0)),
                    .target = cache});
}

// out = silu(norm(x)).
void normalise(Context& ctx, const NormWeights& weights, std::int64_t norm_groups,
               const TensorView& x, const TensorView& out) {
  ctx.run(ops::GroupNorm{.x = x,
                         .weight = weights.weight,
                         .bias = weights.bias,
                         .num_groups = static_cast<int>(norm_groups),
                         .activation = Activation::kSilu,
                         .out = out});
}

void run_slice(Context& ctx, const ResBlockWeights& weights, std::int64_t norm_groups,
               const ResBlockCache& cache, bool is_start, const TensorView& x) {
  const Arena::Scope scope(ctx.scratch);
  const TensorView padded =
      ctx.activation({x.dim(0) + kNumPastFrames, x.dim(1) + 2, x.dim(2) + 2, x.dim(3)});
  const TensorView present = padded.rows(kNumPastFrames, padded.dim(0));
  const TensorView middle = ctx.activation(x.shape());
  normalise(ctx, weights.norm1, norm_groups, x, present);
  exchange_past(ctx, padded, cache.conv1, is_start);
  ctx.run(ops::Conv3d{
      .x = padded, .weight = weights.conv1.weight, .bias = weights.conv1.bias, .out = middle});
  normalise(ctx, weights.norm2, norm_groups, middle, present);
  exchange_past(ctx, padded, cache.conv2, is_start);
  ctx.run(ops::Conv3d{.x = padded,
                      .weight = weights.conv2.weight,
                      .bias = weights.conv2.bias,
                      .residual = x,
                      .out = x});
}

}  // namespace

Shape cache_shape(const Shape& x) { return {kNumPastFrames, x[1] + 2, x[2] + 2, x[3]}; }

std::int64_t frames_per_slice(const Backend& backend, std::int64_t frame_elements) {
  const std::int64_t slice_elements = backend.device().preferred_chunks().slice_elements;
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
  ctx.run(ops::Conv3d{.x = x.reshape({1, 1, num_pixels, in_channels}),
                      .weight = weight.reshape({out_channels, in_channels, 1, 1, 1}),
                      .bias = bias,
                      .residual = accumulate ? target : TensorView(),
                      .out = target});
}

Tensor upload_vector(Backend& backend, std::span<const double> values) {
  std::vector<float> floats;
  for (const double value : values) floats.push_back(static_cast<float>(value));
  const Shape shape{static_cast<std::int64_t>(floats.size())};
  Tensor target(DType::kF32, shape, backend.allocator());
  backend.run(ops::Upload{.host = TensorView(floats.data(), DType::kF32, shape), .target = target});
  return target;
}

}  // namespace mochi::vae
