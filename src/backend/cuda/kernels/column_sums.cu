// Dense attention with column sums. The weights use a log-sum-exp from an earlier step, so the sums
// can be computed in a separate pass, as here. Hopper usually computes both in one pass:
// docs/kernels/column-sums.md.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/kernels/attention_on_hopper.cuh"

namespace mochi {
namespace {

using cuda::AttentionProblem;
using cuda::Bf16;
using cuda::ColumnSumsProblem;
using cuda::kRowStride;

constexpr int kThreads = 128;
constexpr int kWarpKeys = 32;
constexpr int kBlockKeys = kThreads / 32 * kWarpKeys;
constexpr int kQueryTile = 64;
constexpr int kGroupsPerBlock = 16;  // a block's keys stay in registers for so many groups

// The tiles of queries that a block processes, group by group.
struct QueryTiles {
  const AttentionProblem<Bf16>& p;
  const ColumnSumsProblem& sums;
  int head, first_group, tiles_per_group;

  __device__ int group_of(int tile) const { return first_group + tile / tiles_per_group; }
  // Starts to copy a tile's queries, and reads their log-sum-exps in units of log 2.
  template <int kDim>
  __device__ void start(int tile, Bf16* s_q, float* s_lse) const {
    const int group = group_of(tile);
    const int first_row = tile % tiles_per_group * kQueryTile;
    const int first_query = sums.query_of(group, first_row);
    const int num_rows = sums.num_rows(group, p.num_queries) - first_row;
    const auto query_of = [&](int i) {
      return i < num_rows ? first_query + i * sums.query_stride : -1;
    };
    cuda::start_rows<kQueryTile, kDim, kThreads>(s_q, p.q.of(head), p.q.token_stride, p.head_dim,
                                                 query_of);
    cuda::device::commit_copies();
    const int i = threadIdx.x;
    if (i >= kQueryTile) return;
    const int query = query_of(i);
    s_lse[i] = query < 0 ? INFINITY : sums.g_lse[p.row_of(head, query)] * cuda::kLog2E;
  }
};

// sum[m][half] += the weights of the thread's keys for 16 queries from s_q on.
template <int kDim>
__device__ void add_weights(const std::uint32_t (&keys)[kDim / 16][2][4], const Bf16* s_q,
                            const float* s_lse, float scale, float (&sum)[2][2]) {
  float logits[2][2][4] = {};
#pragma unroll
  for (int d = 0; d < kDim; d += 16) {
    std::uint32_t q[2][2];
    cuda::load_right_rows<kDim>(q, s_q + d);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      cuda::device::multiply_add(logits[m][0], keys[d / 16][m], q[0]);
      cuda::device::multiply_add(logits[m][1], keys[d / 16][m], q[1]);
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const float2 lse = *reinterpret_cast<const float2*>(s_lse + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float(&tile)[4] = logits[m][n];
        sum[m][half] += cuda::device::exp2_fast(fmaf(tile[2 * half], scale, -lse.x));
        sum[m][half] += cuda::device::exp2_fast(fmaf(tile[2 * half + 1], scale, -lse.y));
      }
    }
  }
}

// Block (x, y, z) computes keys x of head y for groups from 16·z on. Each warp has its own keys, so
// sums need no other warp.
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const AttentionProblem<Bf16> p, const ColumnSumsProblem sums) {
  extern __shared__ __align__(16) Bf16 s_memory[];
  __shared__ __align__(16) float s_lse[2][kQueryTile];
  constexpr int kTileSize = kQueryTile * kRowStride<kDim>;
  Bf16* s_k = s_memory;
  Bf16* s_q = s_k + kBlockKeys * kRowStride<kDim>;
  const int first_key = blockIdx.x * kBlockKeys;
  const auto head = static_cast<int>(blockIdx.y);
  const int first_group = blockIdx.z * kGroupsPerBlock;
  const int num_groups = min(kGroupsPerBlock, sums.num_groups - first_group);
  const QueryTiles tiles{
      p, sums, head, first_group,
      ((sums.group_size + sums.query_stride - 1) / sums.query_stride + kQueryTile - 1) /
          kQueryTile};
  cuda::start_rows<kBlockKeys, kDim, kThreads>(
      s_k, p.k.of(head), p.k.token_stride, p.head_dim,
      [&](int i) { return first_key + i < p.num_keys ? first_key + i : -1; });
  tiles.template start<kDim>(0, s_q, s_lse[0]);
  cuda::device::wait_copies<0>();
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int warp_key = static_cast<int>(threadIdx.x) / 32 * kWarpKeys;
  std::uint32_t keys[kDim / 16][2][4];
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      cuda::load_left<kDim>(keys[d][m], s_k + (warp_key + 16 * m) * kRowStride<kDim> + d * 16);
    }
  }
  float sum[2][2] = {};
  const int num_tiles = num_groups * tiles.tiles_per_group;
  for (int tile = 0; tile < num_tiles; ++tile) {
    const int now = tile % 2;
    if (tile > 0) {
      cuda::device::wait_copies<0>();
      __syncthreads();
    }
    if (tile + 1 < num_tiles) {
      tiles.template start<kDim>(tile + 1, s_q + (1 - now) * kTileSize, s_lse[1 - now]);
    }
#pragma unroll
    for (int query = 0; query < kQueryTile; query += 16) {
      add_weights<kDim>(keys, s_q + now * kTileSize + query * kRowStride<kDim>, s_lse[now] + query,
                        p.scale * cuda::kLog2E, sum);
    }
    if ((tile + 1) % tiles.tiles_per_group != 0) continue;
    const std::int64_t list =
        static_cast<std::int64_t>(head) * sums.num_groups + tiles.group_of(tile);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float total = cuda::sum_of_quad(sum[i / 2][i % 2]);
      sum[i / 2][i % 2] = 0.0F;
      const int key = first_key + warp_key + i * 8 + lane / 4;
      if (lane % 4 == 0 && key < p.num_keys) sums.g_sums[list * p.num_keys + key] = total;
    }
  }
}

template <int kDim>
void launch(const AttentionProblem<Bf16>& problem, const ColumnSumsProblem& sums,
            cudaStream_t stream) {
  constexpr int kBytes =
      (kBlockKeys + 2 * kQueryTile) * kRowStride<kDim> * static_cast<int>(sizeof(Bf16));
  cuda::check(cudaFuncSetAttribute(column_sums_kernel<kDim>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
              "column sums");
  const dim3 grid((problem.num_keys + kBlockKeys - 1) / kBlockKeys, problem.num_heads,
                  (sums.num_groups + kGroupsPerBlock - 1) / kGroupsPerBlock);
  column_sums_kernel<kDim><<<grid, kThreads, kBytes, stream>>>(problem, sums);
  cuda::check_launch("column sums");
}

}  // namespace

void CudaBackend::do_attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                                const AttentionOutputs& to) {
  if (to.out.num_elements() == 0) return;
  if (is_hopper() && activation_dtype_ == DType::kBF16 && cuda::fits_hopper(in) &&
      cuda::sm90::has_sums_in_one_pass(scores.group_size)) {
    const auto params = cuda::attention_on_hopper(in, to);
    const auto num_scratch = static_cast<std::size_t>(cuda::sm90::num_sums_scratch(params));
    auto* g_scratch =
        reinterpret_cast<std::int32_t*>(workspace(num_scratch * sizeof(std::int32_t)));
    cuda::sm90::launch_attention_with_sums(params,
                                           {.g_former_lse = cuda::data_of<const float>(scores.lse),
                                            .g_sums = cuda::data_of<float>(scores.sums),
                                            .group_size = scores.group_size,
                                            .query_stride = scores.query_stride,
                                            .g_scratch = g_scratch},
                                           stream_);
    return;
  }
  do_attention(in, to);
  const auto clamp = [&](std::int64_t x) {
    return static_cast<int>(std::min<std::int64_t>(x, in.q.dim(1)));
  };
  const ColumnSumsProblem sums{.g_lse = cuda::data_of<const float>(scores.lse),
                               .g_sums = cuda::data_of<float>(scores.sums),
                               .group_size = clamp(scores.group_size),
                               .num_groups = static_cast<int>(scores.sums.dim(1)),
                               .query_stride = clamp(scores.query_stride)};
  if (activation_dtype_ == DType::kF32) {
    cuda::sum_columns_simply(cuda::make_problem<float>(in, to), sums, stream_);
    return;
  }
  const auto problem = cuda::make_problem<Bf16>(in, to);
  if (!cuda::fits_mma(in)) {
    cuda::sum_columns_simply(problem, sums, stream_);
    return;
  }
  cuda::dispatch_dim<cuda::kMaxMmaDim>(problem.head_dim,
                                       [&]<int kDim>() { launch<kDim>(problem, sums, stream_); });
}

}  // namespace mochi
