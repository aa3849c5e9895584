// Operations of the video VAE other than convolutions: layout changes, group norm, temporal
// attention.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"

namespace mochi::cpu {

namespace {

// Returns how many rows of `row_elements` justify another thread.
std::int64_t row_grain(std::int64_t row_elements) {
  return std::max<std::int64_t>(kElementGrain / std::max<std::int64_t>(row_elements, 1), 1);
}

// ---- group norm ----

// Sums over the `num_columns` pixels of one row: sums[c] = Σ(x − pivot), followed by the sums of (x
// − pivot)². The pivot keeps the squares small if the mean is far from zero.
void sum_row(const float* x, const float* pivot, std::int64_t num_columns, std::int64_t channels,
             float* sums) {
  float* squares = sums + channels;
  std::fill_n(sums, 2 * channels, 0.0F);
  for (std::int64_t column = 0; column < num_columns; ++column, x += channels) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float value = x[c] - pivot[c];
      sums[c] += value;
      squares[c] += value * value;
    }
  }
}

// Turns the row sums of one frame into scale and shift per channel, for y = x·scale + shift. Rows
// are added in order, so that the result does not depend on the threads.
void fold_frame(const float* row_sums, const float* pivot, std::int64_t num_rows,
                std::int64_t num_columns, const ops::GroupNorm& params, std::int64_t channels,
                float* scale, float* shift) {
  std::vector<double> totals(static_cast<std::size_t>(2 * channels), 0.0);
  for (std::int64_t row = 0; row < num_rows; ++row) {
    for (std::int64_t i = 0; i < 2 * channels; ++i) totals[i] += row_sums[row * 2 * channels + i];
  }
  const float* weight = data(params.weight);
  const float* bias = data(params.bias);
  const auto count = static_cast<double>(num_rows * num_columns);
  const std::int64_t width = channels / params.num_groups;
  for (std::int64_t first = 0; first < channels; first += width) {
    double mean = 0.0;
    for (std::int64_t c = first; c < first + width; ++c) mean += pivot[c] + totals[c] / count;
    mean /= static_cast<double>(width);
    double variance = 0.0;
    for (std::int64_t c = first; c < first + width; ++c) {
      const double channel_mean = totals[c] / count;  // relative to the pivot
      const double offset = pivot[c] + channel_mean - mean;
      variance += totals[channels + c] / count - channel_mean * channel_mean + offset * offset;
    }
    variance = std::max(variance / static_cast<double>(width), 0.0);
    const double inverse = 1.0 / std::sqrt(variance + params.eps);
    for (std::int64_t c = first; c < first + width; ++c) {
      scale[c] = static_cast<float>(weight[c] * inverse);
      shift[c] = static_cast<float>(bias[c] - mean * weight[c] * inverse);
    }
  }
}

// Computes one output row with its halo columns.
template <typename Act>
void normalise_row(const float* x, const float* scale, const float* shift, std::int64_t num_columns,
                   std::int64_t channels, std::int64_t halo, Act act, float* out) {
  float* interior = out + halo * channels;
  for (std::int64_t column = 0; column < num_columns; ++column) {
    const float* from = x + column * channels;
    float* to = interior + column * channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) to[c] = act(from[c] * scale[c] + shift[c]);
  }
  if (halo == 0) return;
  std::copy_n(interior, channels, out);
  std::copy_n(interior + (num_columns - 1) * channels, channels, interior + num_columns * channels);
}

template <typename Act>
void normalise(const TensorView& x, const float* scales, const float* shifts, Act act,
               const TensorView& out) {
  const float* in = data(x);
  float* result = data(out);
  const std::int64_t num_rows = x.dim(1);
  const std::int64_t num_columns = x.dim(2);
  const std::int64_t channels = x.dim(3);
  const std::int64_t halo = (out.dim(1) - num_rows) / 2;
  const std::int64_t out_rows = out.dim(1);
  const std::int64_t out_row_size = out.dim(2) * channels;
  parallel_for(
      0, out.dim(0) * out_rows, row_grain(out_row_size), [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t frame = i / out_rows;
          const std::int64_t row = std::clamp<std::int64_t>(i % out_rows - halo, 0, num_rows - 1);
          normalise_row(in + (frame * num_rows + row) * num_columns * channels,
                        scales + frame * channels, shifts + frame * channels, num_columns, channels,
                        halo, act, result + i * out_row_size);
        }
      });
}

// ---- temporal attention ----

// Copies one head of one pixel from qkv as [frames, head_dim], with the given stride between
// frames, and scales it to unit length (q, k).
void load_unit_vectors(const float* source, std::int64_t frame_stride, std::int64_t num_frames,
                       std::int64_t head_dim, float* target) {
  constexpr float kMinNorm = 1e-12F;
  for (std::int64_t t = 0; t < num_frames; ++t) {
    const float* vector = source + t * frame_stride;
    float square = 0.0F;
#pragma omp simd reduction(+ : square)
    for (std::int64_t d = 0; d < head_dim; ++d) square += vector[d] * vector[d];
    const float inverse = 1.0F / std::max(std::sqrt(square), kMinNorm);
#pragma omp simd
    for (std::int64_t d = 0; d < head_dim; ++d) target[t * head_dim + d] = vector[d] * inverse;
  }
}

// Scratch of one thread for one head of one pixel.
struct HeadScratch {
  HeadScratch(std::int64_t num_frames, std::int64_t head_dim)
      : q(static_cast<std::size_t>(num_frames * head_dim)),
        k(q.size()),
        transposed_k(q.size()),
        weights(static_cast<std::size_t>(num_frames)) {}
  std::vector<float> q, k, transposed_k, weights;
};

// qkv points to the head's q of frame 0; k and v follow it after `channels` and 2·channels
// elements.
void attend_over_frames(const float* qkv, std::int64_t frame_size, std::int64_t channels,
                        std::int64_t num_frames, std::int64_t head_dim, HeadScratch& scratch,
                        float* out) {
  load_unit_vectors(qkv, frame_size * 3, num_frames, head_dim, scratch.q.data());
  load_unit_vectors(qkv + channels, frame_size * 3, num_frames, head_dim, scratch.k.data());
  for (std::int64_t t = 0; t < num_frames; ++t) {
    for (std::int64_t d = 0; d < head_dim; ++d) {
      scratch.transposed_k[d * num_frames + t] = scratch.k[t * head_dim + d];
    }
  }
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  float* weights = scratch.weights.data();
  for (std::int64_t t = 0; t < num_frames; ++t) {
    const std::int64_t num_keys = t + 1;
    std::fill_n(weights, num_keys, 0.0F);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      const float q = scratch.q[t * head_dim + d] * scale;
      const float* k = scratch.transposed_k.data() + d * num_frames;
#pragma omp simd
      for (std::int64_t s = 0; s < num_keys; ++s) weights[s] += q * k[s];
    }
    // The logits of unit vectors are at most 1, so no maximum has to be subtracted.
    float total = 0.0F;
#pragma omp simd reduction(+ : total)
    for (std::int64_t s = 0; s < num_keys; ++s) total += weights[s] = fast_exp(weights[s]);
    float* target = out + t * frame_size;
    std::fill_n(target, head_dim, 0.0F);
    for (std::int64_t s = 0; s < num_keys; ++s) {
      const float weight = weights[s] / total;
      const float* v = qkv + 2 * channels + s * frame_size * 3;
#pragma omp simd
      for (std::int64_t d = 0; d < head_dim; ++d) target[d] += weight * v[d];
    }
  }
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::LatentsToChannelsLast& op) {
  const float* in = data(op.latents);
  const float* scales = data(op.scale);
  const float* shifts = data(op.shift);
  float* result = data(op.out);
  const std::int64_t channels = op.latents.dim(0);
  const std::int64_t num_pixels = op.out.num_elements() / channels;
  parallel_for(0, num_pixels, row_grain(channels), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t c = 0; c < channels; ++c) {
        result[i * channels + c] = in[c * num_pixels + i] * scales[c] + shifts[c];
      }
    }
  });
}
template void compute(Cpu&, const ops::LatentsToChannelsLast&);

void run(Cpu& /*cpu*/, const ops::ChannelsLastToLatents& op) {
  const float* in = data(op.x);
  const float* scales = data(op.scale);
  const float* shifts = data(op.shift);
  float* result = data(op.latents);
  const std::int64_t channels = op.latents.dim(0);
  const std::int64_t in_channels = op.x.dim(3);
  const std::int64_t num_pixels = op.latents.num_elements() / channels;
  parallel_for(0, num_pixels, row_grain(channels), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = begin; i < end; ++i) {
        result[c * num_pixels + i] = (in[i * in_channels + c] - shifts[c]) * scales[c];
      }
    }
  });
}
template void compute(Cpu&, const ops::ChannelsLastToLatents&);

void run(Cpu& /*cpu*/, const ops::GroupNorm& op) {
  const std::int64_t num_frames = op.x.dim(0);
  const std::int64_t num_rows = op.x.dim(1);
  const std::int64_t num_columns = op.x.dim(2);
  const std::int64_t channels = op.x.dim(3);
  const std::int64_t row_size = num_columns * channels;
  const float* in = data(op.x);
  std::vector<float> row_sums(static_cast<std::size_t>(num_frames * num_rows * 2 * channels));
  parallel_for(0, num_frames * num_rows, row_grain(row_size),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   sum_row(in + i * row_size, in + i / num_rows * num_rows * row_size, num_columns,
                           channels, row_sums.data() + i * 2 * channels);
                 }
               });
  std::vector<float> scales(static_cast<std::size_t>(num_frames * channels));
  std::vector<float> shifts(scales.size());
  parallel_for(0, num_frames, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      fold_frame(row_sums.data() + t * num_rows * 2 * channels, in + t * num_rows * row_size,
                 num_rows, num_columns, op, channels, scales.data() + t * channels,
                 shifts.data() + t * channels);
    }
  });
  switch (op.activation) {
    case Activation::kNone:
      return normalise(op.x, scales.data(), shifts.data(), [](float y) { return y; }, op.out);
    case Activation::kSilu:
      return normalise(op.x, scales.data(), shifts.data(), [](float y) { return silu(y); }, op.out);
    case Activation::kGeluTanh:
      return normalise(
          op.x, scales.data(), shifts.data(), [](float y) { return gelu_tanh(y); }, op.out);
  }
}
template void compute(Cpu&, const ops::GroupNorm&);

void run(Cpu& /*cpu*/, const ops::DepthToSpaceTime& op) {
  const float* in = data(op.x);
  float* result = data(op.out);
  const std::int64_t st = op.temporal;
  const std::int64_t ss = op.spatial;
  const std::int64_t dropped = op.num_dropped_frames;
  const std::int64_t num_rows = op.out.dim(1);
  const std::int64_t num_columns = op.out.dim(2);
  const std::int64_t channels = op.out.dim(3);
  const std::int64_t num_parts = st * ss * ss;
  const std::int64_t in_columns = op.x.dim(2);
  const std::int64_t in_rows = op.x.dim(1);
  const auto fill_row = [=](std::int64_t frame, std::int64_t row, float* target) {
    const float* source =
        in + (frame / st * in_rows + row / ss) * in_columns * channels * num_parts;
    const std::int64_t row_part = (frame % st * ss + row % ss) * ss;
    for (std::int64_t column = 0; column < num_columns; ++column, target += channels) {
      const float* pixel = source + column / ss * channels * num_parts + row_part + column % ss;
      for (std::int64_t c = 0; c < channels; ++c) target[c] = pixel[c * num_parts];
    }
  };
  parallel_for(0, op.out.dim(0) * num_rows, row_grain(num_columns * channels),
               [=](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   fill_row(i / num_rows + dropped, i % num_rows,
                            result + i * num_columns * channels);
                 }
               });
}
template void compute(Cpu&, const ops::DepthToSpaceTime&);

void run(Cpu& /*cpu*/, const ops::FourierFeatures& op) {
  const float* in = data(op.x);
  float* result = data(op.out);
  const std::int64_t channels = op.x.dim(3);
  const std::int64_t out_channels = op.out.dim(3);
  const auto num_frequencies = static_cast<std::int64_t>(op.frequencies.size());
  std::vector<float> factors;
  for (const int frequency : op.frequencies) {
    factors.push_back(std::ldexp(static_cast<float>(2.0 * M_PI), frequency));
  }
  parallel_for(0, op.x.num_elements() / channels, row_grain(out_channels),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const float* from = in + i * channels;
                   float* to = result + i * out_channels;
                   float* sines = to + channels;
                   float* cosines = sines + channels * num_frequencies;
                   std::copy_n(from, channels, to);
                   for (std::int64_t c = 0; c < channels; ++c) {
                     for (const float factor : factors) {
                       *sines++ = std::sin(factor * from[c]);
                       *cosines++ = std::cos(factor * from[c]);
                     }
                   }
                 }
               });
}
template void compute(Cpu&, const ops::FourierFeatures&);

void run(Cpu& /*cpu*/, const ops::TemporalAttention& op) {
  const float* in = data(op.qkv);
  float* result = data(op.out);
  const std::int64_t num_frames = op.out.dim(0);
  const std::int64_t num_pixels = op.out.dim(1) * op.out.dim(2);
  const std::int64_t channels = op.out.dim(3);
  const std::int64_t num_heads = channels / op.head_dim;
  parallel_for(0, num_pixels * num_heads, row_grain(num_frames * op.head_dim * 3),
               [=](std::int64_t begin, std::int64_t end) {
                 HeadScratch scratch(num_frames, op.head_dim);
                 for (std::int64_t i = begin; i < end; ++i) {
                   const std::int64_t pixel = i / num_heads;
                   const std::int64_t first = i % num_heads * op.head_dim;
                   attend_over_frames(in + pixel * 3 * channels + first, num_pixels * channels,
                                      channels, num_frames, op.head_dim, scratch,
                                      result + pixel * channels + first);
                 }
               });
}
template void compute(Cpu&, const ops::TemporalAttention&);

void run(Cpu& /*cpu*/, const ops::ToRgb8& op) {
  const float* in = data(op.x);
  auto* result = reinterpret_cast<std::uint8_t*>(op.out.bytes());
  parallel_for(0, op.x.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const float clamped = std::min(std::max(0.0F, (in[i] + 1.0F) * 0.5F), 1.0F);
      const float shifted = clamped * 255.0F + 0.5F;  // truncation then rounds to nearest
      result[i] = static_cast<std::uint8_t>(static_cast<int>(shifted));
    }
  });
}
template void compute(Cpu&, const ops::ToRgb8&);

}  // namespace mochi::cpu
