// Operations between the matmuls of the transformers: norms, modulation, rotary embedding, patches.
#include <cmath>
#include <cstring>

#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/row_writer.h"
#include "base/parallel_for.h"

namespace mochi::cpu {

namespace {

constexpr std::int64_t kRowGrain = 8;

float inverse_rms(const float* x, std::int64_t width, float eps) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += x[i] * x[i];
  return 1.0F / std::sqrt(sum / static_cast<float>(width) + eps);
}

// Calls fn(row_idx) for every row of a [rows, width] tensor, on all threads.
template <typename Fn>
void for_rows(std::int64_t num_rows, Fn fn) {
  parallel_for(0, num_rows, kRowGrain, [&fn](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) fn(row);
  });
}

struct Patches {  // a latent grid divided into patches
  std::int64_t channels, frames, rows, columns, size;
  std::int64_t patch_rows() const { return rows / size; }
  std::int64_t patch_columns() const { return columns / size; }
};

Patches patches_of(const TensorView& latents, int patch_size) {
  return {latents.dim(0), latents.dim(1), latents.dim(2), latents.dim(3), patch_size};
}

// Calls fn(token features, index of the patch's first element in channel 0) for every token.
template <typename Fn>
void for_tokens(const Patches& grid, const TensorView& tokens, Fn fn) {
  const std::int64_t width = tokens.dim(1);
  float* token_data = data(tokens);
  for_rows(tokens.dim(0), [&](std::int64_t token) {
    const std::int64_t column = token % grid.patch_columns();
    const std::int64_t row = token / grid.patch_columns() % grid.patch_rows();
    const std::int64_t frame = token / (grid.patch_columns() * grid.patch_rows());
    fn(token_data + token * width,
       (frame * grid.rows + row * grid.size) * grid.columns + column * grid.size);
  });
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::RmsNorm& op) {
  const std::int64_t width = op.x.dim(1);
  const float* w = data(op.weight);
  for_rows(op.x.dim(0), [&](std::int64_t row) {
    const float* in = data(op.x) + row * width;
    float* y = data(op.out) + row * width;
    const float factor = inverse_rms(in, width, op.eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] = in[i] * factor * w[i];
  });
}
template void compute(Cpu&, const ops::RmsNorm&);

void run(Cpu& /*cpu*/, const ops::NormModulate& op) {
  const std::int64_t width = op.x.dim(1);
  const float* s = data(op.scale);
  for_rows(op.x.dim(0), [&](std::int64_t row) {
    const float* in = data(op.x) + row * width;
    const float factor = inverse_rms(in, width, op.eps);
    write_row(op.out, row, [&](float* y) {
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) y[i] = in[i] * factor * (1.0F + s[i]);
    });
  });
}
template void compute(Cpu&, const ops::NormModulate&);

void run(Cpu& /*cpu*/, const ops::LayerNormModulate& op) {
  const std::int64_t width = op.x.dim(1);
  const float* add = data(op.shift);
  const float* s = data(op.scale);
  for_rows(op.x.dim(0), [&](std::int64_t row) {
    const float* in = data(op.x) + row * width;
    float* y = data(op.out) + row * width;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) sum += in[i];
    const float mean = sum / static_cast<float>(width);
    float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < width; ++i) squares += (in[i] - mean) * (in[i] - mean);
    const float factor = 1.0F / std::sqrt(squares / static_cast<float>(width) + op.eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      y[i] = (in[i] - mean) * factor * (1.0F + s[i]) + add[i];
    }
  });
}
template void compute(Cpu&, const ops::LayerNormModulate&);

void run(Cpu& cpu, const ops::GatedResidual& op) {
  const std::int64_t width = op.x.dim(1);
  std::vector<float> gates(static_cast<std::size_t>(width));
  for (std::int64_t i = 0; i < width; ++i) {
    gates[static_cast<std::size_t>(i)] = std::tanh(data(op.gate)[i]);
  }
  const std::vector<float> zeros(op.bias ? 0 : static_cast<std::size_t>(width));
  const float* bias = op.bias ? data(op.bias) : zeros.data();
  const float* g = gates.data();
  for_rows(op.x.dim(0), [&](std::int64_t row) {
    const float* in = data(op.r) + row * width;
    float* y = data(op.x) + row * width;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) sum += (in[i] + bias[i]) * (in[i] + bias[i]);
    const float factor = 1.0F / std::sqrt(sum / static_cast<float>(width) + op.eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] += (in[i] + bias[i]) * factor * g[i];
  });
  if (op.next_out) {
    compute(cpu, ops::NormModulate{
                     .x = op.x, .scale = op.next_scale, .eps = op.eps, .out = op.next_out});
  }
}
template void compute(Cpu&, const ops::GatedResidual&);

void run(Cpu& /*cpu*/, const ops::QkNormRope& op) {
  const std::int64_t heads = op.q.dim(0);
  const std::int64_t total = op.q.dim(1);
  const std::int64_t head_dim = op.q.dim(2);
  const auto norm_rotate = [&](const float* in, const float* weight, std::int64_t table_offset,
                               float* out) {
    const float factor = inverse_rms(in, head_dim, op.norm.eps);
    if (!op.norm.cos) {
      for (std::int64_t i = 0; i < head_dim; ++i) out[i] = in[i] * factor * weight[i];
      return;
    }
    const float* cosines = data(op.norm.cos) + table_offset;
    const float* sines = data(op.norm.sin) + table_offset;
#pragma omp simd
    for (std::int64_t j = 0; j < head_dim / 2; ++j) {
      const float even = in[2 * j] * factor * weight[2 * j];
      const float odd = in[2 * j + 1] * factor * weight[2 * j + 1];
      out[2 * j] = even * cosines[j] - odd * sines[j];
      out[2 * j + 1] = even * sines[j] + odd * cosines[j];
    }
  };
  for_rows(op.qkv.dim(0), [&](std::int64_t token) {
    const float* in = data(op.qkv) + token * 3 * heads * head_dim;
    for (std::int64_t head = 0; head < heads; ++head) {
      const std::int64_t out_offset = (head * total + op.offset + token) * head_dim;
      const std::int64_t table_offset = (token * heads + head) * (head_dim / 2);
      const float* q_in = in + head * head_dim;
      const float* k_in = q_in + heads * head_dim;
      const float* v_in = k_in + heads * head_dim;
      norm_rotate(q_in, data(op.norm.q_weight), table_offset, data(op.q) + out_offset);
      norm_rotate(k_in, data(op.norm.k_weight), table_offset, data(op.k) + out_offset);
      std::memcpy(data(op.v) + out_offset, v_in,
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  });
}
template void compute(Cpu&, const ops::QkNormRope&);

void run(Cpu& /*cpu*/, const ops::Patchify& op) {
  const Patches grid = patches_of(op.latents, op.patch_size);
  const std::int64_t channel_stride = grid.frames * grid.rows * grid.columns;
  const float* in = data(op.latents);
  for_tokens(grid, op.tokens, [&](float* token, std::int64_t first) {
    for (std::int64_t c = 0; c < grid.channels; ++c) {
      for (std::int64_t row = 0; row < grid.size; ++row) {
        const float* source = in + c * channel_stride + first + row * grid.columns;
        for (std::int64_t column = 0; column < grid.size; ++column) *token++ = source[column];
      }
    }
  });
}
template void compute(Cpu&, const ops::Patchify&);

void run(Cpu& /*cpu*/, const ops::Unpatchify& op) {
  const Patches grid = patches_of(op.latents, op.patch_size);
  const std::int64_t channel_stride = grid.frames * grid.rows * grid.columns;
  float* out = data(op.latents);
  for_tokens(grid, op.tokens, [&](const float* token, std::int64_t first) {
    for (std::int64_t row = 0; row < grid.size; ++row) {
      for (std::int64_t column = 0; column < grid.size; ++column) {
        float* target = out + first + row * grid.columns + column;
        for (std::int64_t c = 0; c < grid.channels; ++c) target[c * channel_stride] = *token++;
      }
    }
  });
}
template void compute(Cpu&, const ops::Unpatchify&);

}  // namespace mochi::cpu
