// Dense attention with column sums. The weights use a log-sum-exp from an earlier step, so the sums
// can be computed in a separate pass, as here. Hopper usually computes both in one pass:
// docs/kernels/column-sums.md.
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/kernels/attention_on_hopper.cuh"

namespace mochi::cuda {

extern template void compute(Gpu&, const ops::Attention&);

namespace {

constexpr int kThreads = 128;
constexpr int kWarpKeys = 32;
constexpr int kBlockKeys = kThreads / 32 * kWarpKeys;
constexpr int kQueryTile = 64;
constexpr int kGroupsPerBlock = 16;  // a block's keys stay in registers for so many groups

// The tiles of queries that a block processes, group by group.
struct QueryTiles {
  const AttentionParams<Bf16>& p;
  const ColumnSumsParams& sums;
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
    start_rows<kQueryTile, kDim, kThreads>(s_q, p.q.of(head), p.q.token_stride, p.head_dim,
                                           query_of);
    device::commit_copies();
    const int i = threadIdx.x;
    if (i >= kQueryTile) return;
    const int query = query_of(i);
    s_lse[i] = query < 0 ? INFINITY : sums.g_lse[p.row_of(head, query)] * kLog2E;
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
    load_right_rows<kDim>(q, s_q + d);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      device::multiply_add(logits[m][0], keys[d / 16][m], q[0]);
      device::multiply_add(logits[m][1], keys[d / 16][m], q[1]);
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
        sum[m][half] += device::exp2_fast(fmaf(tile[2 * half], scale, -lse.x));
        sum[m][half] += device::exp2_fast(fmaf(tile[2 * half + 1], scale, -lse.y));
      }
    }
  }
}

// Block (x, y, z) computes keys x of head y for groups from 16·z on. Each warp has its own keys, so
// sums need no other warp.
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const AttentionParams<Bf16> p, const ColumnSumsParams sums) {
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
  start_rows<kBlockKeys, kDim, kThreads>(
      s_k, p.k.of(head), p.k.token_stride, p.head_dim,
      [&](int i) { return first_key + i < p.num_keys ? first_key + i : -1; });
  tiles.template start<kDim>(0, s_q, s_lse[0]);
  device::wait_copies<0>();
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int warp_key = static_cast<int>(threadIdx.x) / 32 * kWarpKeys;
  std::uint32_t keys[kDim / 16][2][4];
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      load_left<kDim>(keys[d][m], s_k + (warp_key + 16 * m) * kRowStride<kDim> + d * 16);
    }
  }
  float sum[2][2] = {};
  const int num_tiles = num_groups * tiles.tiles_per_group;
  for (int tile = 0; tile < num_tiles; ++tile) {
    const int now = tile % 2;
    if (tile > 0) {
      device::wait_copies<0>();
      __syncthreads();
    }
    if (tile + 1 < num_tiles) {
      tiles.template start<kDim>(tile + 1, s_q + (1 - now) * kTileSize, s_lse[1 - now]);
    }
#pragma unroll
    for (int query = 0; query < kQueryTile; query += 16) {
      add_weights<kDim>(keys, s_q + now * kTileSize + query * kRowStride<kDim>, s_lse[now] + query,
                        p.scale * kLog2E, sum);
    }
    if ((tile + 1) % tiles.tiles_per_group != 0) continue;
    const std::int64_t list =
        static_cast<std::int64_t>(head) * sums.num_groups + tiles.group_of(tile);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float total = sum_of_quad(sum[i / 2][i % 2]);
      sum[i / 2][i % 2] = 0.0F;
      const int key = first_key + warp_key + i * 8 + lane / 4;
      if (lane % 4 == 0 && key < p.num_keys) sums.g_sums[list * p.num_keys + key] = total;
    }
  }
}

template <int kDim>
void launch(const AttentionParams<Bf16>& params, const ColumnSumsParams& sums,
            cudaStream_t stream) {
  constexpr int kBytes =
      (kBlockKeys + 2 * kQueryTile) * kRowStride<kDim> * static_cast<int>(sizeof(Bf16));
  allow_shared_memory(column_sums_kernel<kDim>, kBytes);
  const dim3 grid((params.num_keys + kBlockKeys - 1) / kBlockKeys, params.num_heads,
                  (sums.num_groups + kGroupsPerBlock - 1) / kGroupsPerBlock);
  column_sums_kernel<kDim><<<grid, kThreads, kBytes, stream>>>(params, sums);
  check_launch("column sums");
}

}  // namespace

void run(Gpu& gpu, const ops::AttentionWithColumnSums& op) {
  if (op.to.out.num_elements() == 0) return;
  if (gpu.is_hopper() && gpu.activation_dtype() == DType::kBF16 && fits_hopper(op.in) &&
      sm90::has_sums_in_one_pass(op.group_size)) {
    const auto params = attention_on_hopper(op.in, op.to);
    const auto num_scratch = static_cast<std::size_t>(sm90::num_sums_scratch(params));
    auto* g_scratch =
        reinterpret_cast<std::int32_t*>(gpu.workspace(num_scratch * sizeof(std::int32_t)));
    sm90::launch_attention_with_sums(params,
                                     {.g_former_lse = data_of<const float>(op.scores_lse),
                                      .g_sums = data_of<float>(op.sums),
                                      .group_size = op.group_size,
                                      .query_stride = op.query_stride,
                                      .g_scratch = g_scratch},
                                     gpu.num_multiprocessors(), gpu.stream());
    return;
  }
  compute(gpu, ops::Attention{.in = op.in, .to = op.to});
  const auto clamp = [&](std::int64_t x) {
    return static_cast<int>(std::min<std::int64_t>(x, op.in.q.dim(1)));
  };
  const ColumnSumsParams sums{.g_lse = data_of<const float>(op.scores_lse),
                              .g_sums = data_of<float>(op.sums),
                              .group_size = clamp(op.group_size),
                              .num_groups = static_cast<int>(op.sums.dim(1)),
                              .query_stride = clamp(op.query_stride)};
  if (gpu.activation_dtype() == DType::kF32) {
    sum_columns_simply(make_params<float>(op.in, op.to), sums, gpu.stream());
    return;
  }
  const auto params = make_params<Bf16>(op.in, op.to);
  if (!fits_mma(op.in)) {
    sum_columns_simply(params, sums, gpu.stream());
    return;
  }
  dispatch_dim<kMaxMmaDim>(params.head_dim,
                           [&]<int kDim>() { launch<kDim>(params, sums, gpu.stream()); });
}
template void compute(Gpu&, const ops::AttentionWithColumnSums&);

}  // namespace mochi::cuda
