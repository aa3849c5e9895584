// Operations between the matmuls of the transformers: norms, modulation, rotary embedding, patches.
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/pointers.h"
#include "base/parallel_for.h"

namespace mochi {

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

void CpuBackend::do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                             const TensorView& out) {
  const std::int64_t width = x.dim(1);
  const float* w = data(weight);
  for_rows(x.dim(0), [&](std::int64_t row) {
    const float* in = data(x) + row * width;
    float* y = data(out) + row * width;
    const float factor = inverse_rms(in, width, eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] = in[i] * factor * w[i];
  });
}

void CpuBackend::do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                                  const TensorView& out) {
  const std::int64_t width = x.dim(1);
  const float* s = data(scale);
  for_rows(x.dim(0), [&](std::int64_t row) {
    const float* in = data(x) + row * width;
    float* y = data(out) + row * width;
    const float factor = inverse_rms(in, width, eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] = in[i] * factor * (1.0F + s[i]);
  });
}

void CpuBackend::do_layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                        const TensorView& scale, float eps, const TensorView& out) {
  const std::int64_t width = x.dim(1);
  const float* add = data(shift);
  const float* s = data(scale);
  for_rows(x.dim(0), [&](std::int64_t row) {
    const float* in = data(x) + row * width;
    float* y = data(out) + row * width;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) sum += in[i];
    const float mean = sum / static_cast<float>(width);
    float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < width; ++i) squares += (in[i] - mean) * (in[i] - mean);
    const float factor = 1.0F / std::sqrt(squares / static_cast<float>(width) + eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      y[i] = (in[i] - mean) * factor * (1.0F + s[i]) + add[i];
    }
  });
}

void CpuBackend::do_gated_residual(const TensorView& r, const GatedResidual& params,
                                   const TensorView& x) {
  const std::int64_t width = x.dim(1);
  std::vector<float> gates(static_cast<std::size_t>(width));
  for (std::int64_t i = 0; i < width; ++i) {
    gates[static_cast<std::size_t>(i)] = std::tanh(data(params.gate)[i]);
  }
  const std::vector<float> zeros(params.bias ? 0 : static_cast<std::size_t>(width));
  const float* bias = params.bias ? data(params.bias) : zeros.data();
  const float* g = gates.data();
  for_rows(x.dim(0), [&](std::int64_t row) {
    const float* in = data(r) + row * width;
    float* y = data(x) + row * width;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) sum += (in[i] + bias[i]) * (in[i] + bias[i]);
    const float factor = 1.0F / std::sqrt(sum / static_cast<float>(width) + params.eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] += (in[i] + bias[i]) * factor * g[i];
  });
  if (params.next_out) do_norm_modulate(x, params.next_scale, params.eps, params.next_out);
}

void CpuBackend::do_qk_norm_rope(const TensorView& qkv, const QkNormRope& params,
                                 std::int64_t offset, const TensorView& q, const TensorView& k,
                                 const TensorView& v) {
  const std::int64_t heads = q.dim(0);
  const std::int64_t total = q.dim(1);
  const std::int64_t head_dim = q.dim(2);
  const auto norm_rotate = [&](const float* in, const float* weight, std::int64_t table_offset,
                               float* out) {
    const float factor = inverse_rms(in, head_dim, params.eps);
    if (!params.cos) {
      for (std::int64_t i = 0; i < head_dim; ++i) out[i] = in[i] * factor * weight[i];
      return;
    }
    const float* cosines = data(params.cos) + table_offset;
    const float* sines = data(params.sin) + table_offset;
#pragma omp simd
    for (std::int64_t j = 0; j < head_dim / 2; ++j) {
      const float even = in[2 * j] * factor * weight[2 * j];
      const float odd = in[2 * j + 1] * factor * weight[2 * j + 1];
      out[2 * j] = even * cosines[j] - odd * sines[j];
      out[2 * j + 1] = even * sines[j] + odd * cosines[j];
    }
  };
  for_rows(qkv.dim(0), [&](std::int64_t token) {
    const float* in = data(qkv) + token * 3 * heads * head_dim;
    for (std::int64_t head = 0; head < heads; ++head) {
      const std::int64_t out_offset = (head * total + offset + token) * head_dim;
      const std::int64_t table_offset = (token * heads + head) * (head_dim / 2);
      const float* q_in = in + head * head_dim;
      const float* k_in = q_in + heads * head_dim;
      const float* v_in = k_in + heads * head_dim;
      norm_rotate(q_in, data(params.q_weight), table_offset, data(q) + out_offset);
      norm_rotate(k_in, data(params.k_weight), table_offset, data(k) + out_offset);
      std::memcpy(data(v) + out_offset, v_in, static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  });
}

void CpuBackend::do_patchify(const TensorView& latents, int patch_size, const TensorView& out) {
  const Patches grid = patches_of(latents, patch_size);
  const std::int64_t channel_stride = grid.frames * grid.rows * grid.columns;
  const float* in = data(latents);
  for_tokens(grid, out, [&](float* token, std::int64_t first) {
    for (std::int64_t c = 0; c < grid.channels; ++c) {
      for (std::int64_t row = 0; row < grid.size; ++row) {
        const float* source = in + c * channel_stride + first + row * grid.columns;
        for (std::int64_t column = 0; column < grid.size; ++column) *token++ = source[column];
      }
    }
  });
}

void CpuBackend::do_unpatchify(const TensorView& tokens, int patch_size,
                               const TensorView& latents) {
  const Patches grid = patches_of(latents, patch_size);
  const std::int64_t channel_stride = grid.frames * grid.rows * grid.columns;
  float* out = data(latents);
  for_tokens(grid, tokens, [&](const float* token, std::int64_t first) {
    for (std::int64_t row = 0; row < grid.size; ++row) {
      for (std::int64_t column = 0; column < grid.size; ++column) {
        float* target = out + first + row * grid.columns + column;
        for (std::int64_t c = 0; c < grid.channels; ++c) target[c * channel_stride] = *token++;
      }
    }
  });
}

}  // namespace mochi
