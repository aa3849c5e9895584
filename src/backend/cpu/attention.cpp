// Attention in tiles with a running softmax (as in FlashAttention): the logits of a tile of queries
// against a tile of keys are all that is ever in memory.
#include <dnnl.hpp>
#include <limits>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/simd_math.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {

namespace {

constexpr std::int64_t kQueryTile = 128;
constexpr std::int64_t kKeyTile = 256;

float* data(const TensorView& tensor) { return tensor.f32().data(); }

// c [m, n] = beta·c + a·b with row strides lda, ldb, ldc; b is [n, k] when transposed, else [k, n].
// Inside a parallel region oneDNN computes on the calling thread alone.
void gemm(bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
          std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  const dnnl_status_t status =
      dnnl_sgemm('N', transpose_b ? 'T' : 'N', m, n, k, 1.0F, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success)
    fail("attention: a matrix product failed in oneDNN ({})", int{status});
}

// Running state of one tile of queries.
struct TileState {
  std::vector<float> logits = std::vector<float>(kQueryTile * kKeyTile);
  std::vector<float> out;  // [queries, head_dim], not yet divided by `sum`
  std::vector<float> max = std::vector<float>(kQueryTile);
  std::vector<float> sum = std::vector<float>(kQueryTile);
};

// Turns one row of logits into exp(logit·scale + bias − max) and returns their sum; `max` grows,
// and `correction` is what earlier results must be multiplied with.
float softmax_row(float* logits, std::int64_t num_keys, float scale, const float* bias, float& max,
                  float& correction) {
  float new_max = max;
  if (bias != nullptr) {
#pragma omp simd reduction(max : new_max)
    for (std::int64_t j = 0; j < num_keys; ++j) {
      logits[j] = logits[j] * scale + bias[j];
      new_max = std::max(new_max, logits[j]);
    }
  } else {
#pragma omp simd reduction(max : new_max)
    for (std::int64_t j = 0; j < num_keys; ++j) {
      logits[j] *= scale;
      new_max = std::max(new_max, logits[j]);
    }
  }
  correction = cpu::fast_exp(max - new_max);
  max = new_max;
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < num_keys; ++j) {
    logits[j] = cpu::fast_exp(logits[j] - new_max);
    sum += logits[j];
  }
  return sum;
}

// One tile of queries of one head against all keys.
void attend_tile(const AttentionInputs& in, std::int64_t head, std::int64_t first_query,
                 TileState& state, const TensorView& out) {
  const std::int64_t num_queries = in.q.dim(1);
  const std::int64_t head_dim = in.q.dim(2);
  const std::int64_t num_keys = in.k.dim(1);
  const std::int64_t count = std::min(kQueryTile, num_queries - first_query);
  const float* q = data(in.q) + (head * num_queries + first_query) * head_dim;
  const float* k = data(in.k) + head * num_keys * head_dim;
  const float* v = data(in.v) + head * num_keys * head_dim;
  const float* bias =
      in.bias ? data(in.bias) + (head * num_queries + first_query) * num_keys : nullptr;
  state.out.assign(static_cast<std::size_t>(count * head_dim), 0.0F);
  std::fill_n(state.max.begin(), count, -std::numeric_limits<float>::max());
  std::fill_n(state.sum.begin(), count, 0.0F);

  for (std::int64_t first_key = 0; first_key < num_keys; first_key += kKeyTile) {
    const std::int64_t keys = std::min(kKeyTile, num_keys - first_key);
    float* logits = state.logits.data();
    gemm(true, count, keys, head_dim, q, head_dim, k + first_key * head_dim, head_dim, 0.0F, logits,
         kKeyTile);
    for (std::int64_t row = 0; row < count; ++row) {
      const auto i = static_cast<std::size_t>(row);
      float correction = 1.0F;
      const float sum = softmax_row(logits + row * kKeyTile, keys, in.scale,
                                    bias == nullptr ? nullptr : bias + row * num_keys + first_key,
                                    state.max[i], correction);
      state.sum[i] = state.sum[i] * correction + sum;
      float* partial = state.out.data() + row * head_dim;
#pragma omp simd
      for (std::int64_t d = 0; d < head_dim; ++d) partial[d] *= correction;
    }
    gemm(false, count, head_dim, keys, logits, kKeyTile, v + first_key * head_dim, head_dim, 1.0F,
         state.out.data(), head_dim);
  }

  const std::int64_t out_stride = out.dim(1);
  for (std::int64_t row = 0; row < count; ++row) {
    const float factor = 1.0F / state.sum[static_cast<std::size_t>(row)];
    const float* partial = state.out.data() + row * head_dim;
    float* y = data(out) + (first_query + row) * out_stride + head * head_dim;
#pragma omp simd
    for (std::int64_t d = 0; d < head_dim; ++d) y[d] = partial[d] * factor;
  }
}

}  // namespace

void CpuBackend::do_attention(const AttentionInputs& in, const TensorView& out) {
  const std::int64_t tiles = (in.q.dim(1) + kQueryTile - 1) / kQueryTile;
  parallel_for(0, in.q.dim(0) * tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    TileState state;
    for (std::int64_t i = begin; i < end; ++i) {
      attend_tile(in, i / tiles, i % tiles * kQueryTile, state, out);
    }
  });
}

}  // namespace mochi
