// One persistent kernel for both operations. docs/kernels/fused-linear.md has the reasoning and the
// numbers.
//
// A block computes 128 rows of x times two halves of 128 rows of the weight. The halves belong
// together but need not be neighbours: the gate and the value of the same features, or query and
// key of the same head. Two warpgroups compute and leave their results in shared memory; three
// warps turn these into the output while the next tile is computed.
#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/norm_rope.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/cuda/sm90/linear_tile.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

constexpr int kSize = 8;               // results of one thread at a time, per half
constexpr int kLanes = kHalf / kSize;  // threads that share a row of a half

// out = act(a)·b.
template <Activation kActivation>
struct Gate {
  __nv_bfloat16* g_out;
  std::int64_t rows, features;

  __device__ int first_weight_row(int column_idx, int half) const {
    return column_idx * kHalf + half * static_cast<int>(features);
  }
  // Called by whole warps. `row` is the row of s_out, `out_row` that of the output.
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    if (out_row >= rows) return;
    float a[kSize];
    float b[kSize];
    unpack(read_results(s_out, 0, row, lane), a);
    unpack(read_results(s_out, 1, row, lane), b);
#pragma unroll
    for (int i = 0; i < kSize; ++i) a[i] = activate<__nv_bfloat16, kActivation>(a[i]) * b[i];
    store_vector(g_out + out_row * features + column_idx * kHalf, lane, a);
  }
};

// Writes q and k of one head, normalised and rotated; after the q and k of all heads, v of two.
struct SplitQkv {
  QkvLinearParams to;

  __device__ int first_weight_row(int column_idx, int half) const {
    const auto heads = static_cast<int>(to.heads);
    return (column_idx < heads ? column_idx + half * heads : 2 * column_idx + half) * kHalf;
  }
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    const bool is_there = out_row < to.tokens;
    const uint4 first = read_results(s_out, 0, row, lane);
    const uint4 second = read_results(s_out, 1, row, lane);
    if (column_idx >= to.heads) {
      const std::int64_t head = 2 * (column_idx - to.heads);
      if (is_there) store(to.g_v, head, out_row, lane, first);
      if (is_there && head + 1 < to.heads) store(to.g_v, head + 1, out_row, lane, second);
      return;
    }
    float cosines[kSize / 2];
    float sines[kSize / 2];
    if (to.g_cos != nullptr) {
      // Rows after the last one take part in the sums over lanes; they use the last row's angles.
      const std::int64_t token = is_there ? out_row : to.tokens - 1;
      const std::int64_t offset = (token * to.heads + column_idx) * (kHalf / 2) + lane * 4;
      load_floats(to.g_cos + offset, cosines);
      load_floats(to.g_sin + offset, sines);
    }
    const auto finish_part = [&](const uint4& part, const float* g_weight, void* g_target) {
      float values[kSize];
      float weight[kSize];
      unpack(part, values);
#pragma unroll
      for (int i = 0; i < kSize; ++i) weight[i] = __ldg(g_weight + lane * kSize + i);
      norm<kLanes>(values, weight, to.eps);
      if (to.g_cos != nullptr) rotate(values, cosines, sines);
      if (is_there) store(g_target, column_idx, out_row, lane, pack(values));
    };
    finish_part(first, to.g_q_weight, to.g_q);
    finish_part(second, to.g_k_weight, to.g_k);
  }

 private:
  __device__ void store(void* g_target, std::int64_t head, int token, int lane,
                        const uint4& values) const {
    const std::int64_t row = head * to.total + to.offset + token;
    static_cast<uint4*>(g_target)[row * kLanes + lane] = values;
  }
};

__device__ inline int num_items(const LinearSizes& sizes) {
  return sizes.row_tiles * sizes.column_tiles;
}

template <typename Epilogue>
__device__ void produce(const CUtensorMap& x_map, const CUtensorMap& weight_map,
                        const LinearSizes& sizes, const Epilogue& epilogue, LinearMemory& s,
                        int rank) {
  Ring<kStages> stage;
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    const LinearTile tile = find_tile(sizes, item, rank);
    const int weight_row = epilogue.first_weight_row(tile.column_idx, rank);
    for (int step = 0; step < sizes.depth_steps; ++step) {
      device::wait(&s.empty[stage.idx], stage.parity ^ 1);
      device::arrive_expecting(&s.full[stage.idx], kTileBytes + 2 * kHalfBytes);
      device::load_tile<2>(s.s_x[stage.idx], x_map, {step * kDepth, tile.first_row},
                           &s.full[stage.idx]);
      device::load_tile_to(s.s_weight[stage.idx] + rank * kHalfBytes, weight_map,
                           {step * kDepth, weight_row, 0, 0}, &s.full[stage.idx],
                           (1 << kClusterSize) - 1);
      stage.advance();
    }
  }
}

__device__ void consume(const LinearSizes& sizes, LinearMemory& s, int warpgroup) {
  Ring<kStages> stage;
  unsigned out_parity = 1;
  const int lane = threadIdx.x % 32;
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    float sums[kHalf];
    // Stages are released one product later, when it is known to be complete.
    int former = -1;
    const auto release_stage = [&] {
      if (former >= 0 && lane < kClusterSize) device::arrive_at(&s.empty[former], lane);
    };
    for (int step = 0; step < sizes.depth_steps; ++step) {
      device::wait(&s.full[stage.idx], stage.parity);
      const std::uint64_t rows =
          device::describe_k_rows(s.s_x[stage.idx] + warpgroup * kConsumerRows * kRowBytes);
      const std::uint64_t columns = device::describe_k_rows(s.s_weight[stage.idx]);
      device::fence_products();
#pragma unroll
      for (int k = 0; k < kDepth / 16; ++k) {
        device::multiply(sums, device::advance(rows, k * 32), device::advance(columns, k * 32),
                         (step | k) != 0);
      }
      device::commit_products();
      device::wait_products<1>();
      release_stage();
      former = stage.idx;
      stage.advance();
    }
    device::wait_products<0>();
    device::hold(sums);
    release_stage();
    device::wait(&s.out_empty[warpgroup], out_parity);
    out_parity ^= 1;
    store_sums(sums, s.s_out[warpgroup]);
    device::arrive(&s.out_full[warpgroup]);
  }
}

// The work of the finishing warps, which process the results of a tile while the next is computed.
template <typename Epilogue>
__device__ void finish(const LinearSizes& sizes, const Epilogue& epilogue, LinearMemory& s,
                       int rank) {
  const int thread = threadIdx.x % 128 - (128 - kFinishers);
  const int lane = thread % kLanes;
  const int num_clusters = gridDim.x / kClusterSize;
  unsigned parity = 0;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    const LinearTile tile = find_tile(sizes, item, rank);
    for (int i = 0; i < kConsumers; ++i) {
      device::wait(&s.out_full[i], parity);
#pragma unroll 2
      for (int row = thread / kLanes; row < kConsumerRows; row += kFinishers / kLanes) {
        epilogue.finish(s.s_out[i], row, tile.first_row + i * kConsumerRows + row, tile.column_idx,
                        lane);
      }
      device::arrive(&s.out_empty[i]);
    }
    parity ^= 1;
  }
}

template <typename Epilogue>
__global__ void __cluster_dims__(kClusterSize) __launch_bounds__(kThreads, 1)
    fused_linear_kernel(const __grid_constant__ CUtensorMap x_map,
                        const __grid_constant__ CUtensorMap weight_map, const LinearSizes sizes,
                        const Epilogue epilogue) {
  extern __shared__ __align__(kAlignment) unsigned char s_raw[];
  auto& s = *reinterpret_cast<LinearMemory*>(s_raw);
  const int rank = static_cast<int>(device::cluster_rank());
  const int warpgroup = device::warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    if (device::shared_address(s_raw) % kAlignment != 0) __trap();
    for (int i = 0; i < kStages; ++i) {
      device::init_barrier(&s.full[i], 1);
      device::init_barrier(&s.empty[i], kConsumers * 4 * kClusterSize);
    }
    for (int i = 0; i < kConsumers; ++i) {
      device::init_barrier(&s.out_full[i], 128);
      device::init_barrier(&s.out_empty[i], kFinishers);
    }
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == kConsumers) {
    device::lower_registers<kOtherRegisters>();
    if (device::warp_uniform(threadIdx.x % 128 / 32) > 0) {
      finish(sizes, epilogue, s, rank);
    } else if (device::is_elected()) {
      produce(x_map, weight_map, sizes, epilogue, s, rank);
    }
    __syncwarp();
  } else {
    device::raise_registers<kConsumerRegisters>();
    consume(sizes, s, warpgroup);
  }
  // A block must not exit before its neighbour's data has arrived.
  device::sync_cluster();
}

int ceil_divide(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

CUtensorMap map_rows(const void* g_data, std::int64_t rows, std::int64_t k) {
  return make_tensor_map(g_data, std::array<std::int64_t, 2>{k, rows},
                         std::array<std::int64_t, 1>{k * 2}, std::array<int, 2>{kDepth, kTileRows});
}

// The rank is 4 because load_tile_to needs it.
CUtensorMap map_weight(const void* g_weight, std::int64_t n, std::int64_t k) {
  return make_tensor_map(g_weight, std::array<std::int64_t, 4>{k, n, 1, 1},
                         std::array<std::int64_t, 3>{k * 2, n * k * 2, n * k * 2},
                         std::array<int, 4>{kDepth, kHalf, 1, 1});
}

template <typename Epilogue>
void launch(const CUtensorMap& x_map, const CUtensorMap& weight_map, const LinearSizes& sizes,
            const Epilogue& epilogue, int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(LinearMemory);
  check(cudaFuncSetAttribute(fused_linear_kernel<Epilogue>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "setting the size of shared memory");
  const int num_clusters =
      std::min(sizes.row_tiles * sizes.column_tiles, num_multiprocessors / kClusterSize);
  fused_linear_kernel<<<static_cast<unsigned>(num_clusters * kClusterSize), kThreads, kSharedBytes,
                        stream>>>(x_map, weight_map, sizes, epilogue);
  check_launch("fused_linear");
}

LinearSizes find_sizes(std::int64_t rows, std::int64_t column_tiles, std::int64_t k) {
  return {ceil_divide(rows, kTileRows * kClusterSize), static_cast<int>(column_tiles),
          ceil_divide(k, kDepth)};
}

// Returns true if int coordinates and tile numbers are large enough for these sizes.
bool suits(std::int64_t rows, std::int64_t n, std::int64_t k,
           std::initializer_list<const void*> pointers) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  return rows > 0 && k > 0 && k % 8 == 0 && rows <= kMax && n <= kMax && k <= kMax &&
         (rows / kTileRows + 1) * (n / kHalf + 1) <= kMax &&
         std::ranges::all_of(pointers, [](const void* pointer) {
           return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
         });
}

}  // namespace

bool suits_gated_linear(const GatedLinearParams& params) {
  return params.features % kHalf == 0 && suits(params.rows, 2 * params.features, params.k,
                                               {params.g_x, params.g_weight, params.g_out});
}

bool suits_qkv_linear(const QkvLinearParams& params) {
  return params.head_dim == kHalf && params.total <= std::numeric_limits<int>::max() / 2 &&
         suits(params.tokens, 3 * params.heads * params.head_dim, params.k,
               {params.g_x, params.g_weight, params.g_q, params.g_k, params.g_v, params.g_q_weight,
                params.g_k_weight, params.g_cos, params.g_sin});
}

void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream) {
  const CUtensorMap x_map = map_rows(params.g_x, params.rows, params.k);
  const CUtensorMap weight_map = map_weight(params.g_weight, 2 * params.features, params.k);
  const LinearSizes sizes = find_sizes(params.rows, params.features / kHalf, params.k);
  const auto launch_with = [&]<Activation kActivation>() {
    launch(
        x_map, weight_map, sizes,
        Gate<kActivation>{static_cast<__nv_bfloat16*>(params.g_out), params.rows, params.features},
        num_multiprocessors, stream);
  };
  switch (params.activation) {
    case Activation::kNone:
      return launch_with.template operator()<Activation::kNone>();
    case Activation::kSilu:
      return launch_with.template operator()<Activation::kSilu>();
    case Activation::kGeluTanh:
      return launch_with.template operator()<Activation::kGeluTanh>();
  }
}

void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors,
                       cudaStream_t stream) {
  const CUtensorMap x_map = map_rows(params.g_x, params.tokens, params.k);
  const CUtensorMap weight_map = map_weight(params.g_weight, 3 * params.heads * kHalf, params.k);
  const std::int64_t column_tiles = params.heads + (params.heads + 1) / 2;
  launch(x_map, weight_map, find_sizes(params.tokens, column_tiles, params.k), SplitQkv{params},
         num_multiprocessors, stream);
}

}  // namespace mochi::cuda::sm90
