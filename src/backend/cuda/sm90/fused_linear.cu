// One persistent kernel for both; docs/kernels/fused-linear.md has the reasoning and the numbers.
//
// A block computes 128 rows of x times two times 128 rows of the weight, its halves, which belong
// together but need not be neighbours: the gate and the value of the same features, or query and
// key of the same head. So each thread has in its registers both of what the epilogue combines.
#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/sm90/attention_rows.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/cuda/sm90/linear_tile.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

using Sums = float[kHalf];  // of one thread: 64 of each half, see device/wgmma.cuh

// values[i] = what lies at 4·i + thread % 4 from the quad's first g: each of its threads reads four
// neighbours at its own g, 4·(thread % 4) further, and they exchange them.
__device__ inline void load_across_quad(const float* g, float (&values)[4]) {
  const float4 own = __ldcs(reinterpret_cast<const float4*>(g));
  values[0] = own.x;
  values[1] = own.y;
  values[2] = own.z;
  values[3] = own.w;
  const int lane = device::thread_idx_here() % 4;
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool is_upper = (lane & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      const float low = values[i];
      const float high = values[i + bit];
      const float other = __shfl_xor_sync(0xffffffff, is_upper ? low : high, bit);
      values[i] = is_upper ? other : low;
      values[i + bit] = is_upper ? high : other;
    }
  }
}

// out = act(a)·b.
template <Activation kActivation>
struct Gate {
  CUtensorMap out_map;
  int features;

  __device__ int first_weight_row(int column_idx, int half) const {
    return column_idx * kHalf + half * features;
  }
  __device__ void finish(Sums& sums, const LinearTile& tile, int first_row, Outlet& outlet) const {
#pragma unroll
    for (int i = 0; i < kHalf / 2; i += 4) gate_four(sums + i, sums + kHalf / 2 + i);
    outlet.send(sums, out_map, {tile.column_idx * kHalf, first_row, 0});
  }

 private:
  // a = act(a)·b of four; they share one reciprocal, since the unit for exponentials and
  // reciprocals is what an epilogue waits for.
  __device__ static void gate_four(float* a, const float* b) {
    if constexpr (kActivation == Activation::kNone) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] *= b[i];
    } else {
      // The product of four must not overflow. What this changes is below e⁻²⁰·a.
      constexpr float kMaxExponent = 20.0F;
      float d[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        d[i] = 1.0F + __expf(fminf(-logistic_argument<kActivation>(a[i]), kMaxExponent));
      }
      const float first = d[0] * d[1];
      const float last = d[2] * d[3];
      const float reciprocal = __fdividef(1.0F, first * last);
      a[0] *= b[0] * (d[1] * (last * reciprocal));
      a[1] *= b[1] * (d[0] * (last * reciprocal));
      a[2] *= b[2] * (d[3] * (first * reciprocal));
      a[3] *= b[3] * (d[2] * (first * reciprocal));
    }
  }
};

// q and k of one head, normed and rotated; behind those of all heads, v of two.
struct SplitQkv {
  CUtensorMap q_map, k_map, v_map;
  const float* g_q_weight;
  const float* g_k_weight;
  const float* g_cos;  // or null
  const float* g_sin;
  int tokens, heads;
  float eps;

  __device__ int first_weight_row(int column_idx, int half) const {
    const bool is_value = column_idx >= heads;
    return (is_value ? 2 * column_idx + half : column_idx + half * heads) * kHalf;
  }
  __device__ void finish(Sums& sums, const LinearTile& tile, int first_row, Outlet& outlet) const {
    const int head = tile.column_idx;
    if (head >= heads) {
      const int first_head = 2 * (head - heads);
      outlet.send(sums, v_map, {0, first_row, first_head});
      outlet.send(sums + kHalf / 2, v_map, {0, first_row, first_head + 1});
      return;
    }
    norm(sums, g_q_weight);
    norm(sums + kHalf / 2, g_k_weight);
    if (g_cos != nullptr) rotate(sums, first_row, head);
    outlet.send(sums, q_map, {0, first_row, head});
    outlet.send(sums + kHalf / 2, k_map, {0, first_row, head});
  }

 private:
  __device__ void norm(float* sums, const float* g_weight) const {
    float factor[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float squares = 0.0F;
#pragma unroll
      for (int i = 2 * row; i < kHalf / 2; i += 4) {
        squares += sums[i] * sums[i] + sums[i + 1] * sums[i + 1];
      }
      factor[row] = 1.0F / sqrtf(sum_of_quad(squares) / kHalf + eps);
    }
    const int column = 2 * (device::thread_idx_here() % 4);
#pragma unroll
    for (int i = 0; i < kHalf / 2; i += 4) {
      const float2 weight = *reinterpret_cast<const float2*>(g_weight + 2 * i + column);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        sums[i + 2 * row] *= factor[row] * weight.x;
        sums[i + 2 * row + 1] *= factor[row] * weight.y;
      }
    }
  }

  __device__ void rotate(float* sums, int first_row, int head) const {
    const int thread = device::thread_idx_here() % 128;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      // Rows behind the last, which are not stored, take its angles.
      const int token = min(first_row + thread / 32 * 16 + thread % 32 / 4 + 8 * row, tokens - 1);
      const std::int64_t first =
          (static_cast<std::int64_t>(token) * heads + head) * (kHalf / 2) + thread % 4 * 4;
#pragma unroll
      for (int i = 0; i < kHalf / 2; i += 16) {  // of this thread; one of every four columns
        __syncwarp();  // lest more of the table be loaded ahead than there are registers
        float cosines[4];
        float sines[4];
        load_across_quad(g_cos + first + i, cosines);
        load_across_quad(g_sin + first + i, sines);
#pragma unroll
        for (int j = 0; j < 8; ++j) {  // four of q, four of k
          float* pair = sums + j / 4 * (kHalf / 2) + i + j % 4 * 4 + 2 * row;
          const float turned = pair[0] * cosines[j % 4] - pair[1] * sines[j % 4];
          pair[1] = pair[0] * sines[j % 4] + pair[1] * cosines[j % 4];
          pair[0] = turned;
        }
      }
    }
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

template <typename Epilogue>
__device__ void consume(const LinearSizes& sizes, const Epilogue& epilogue, LinearMemory& s,
                        int rank, int warpgroup) {
  Ring<kStages> stage;
  Outlet outlet(s, warpgroup);
  const int lane = threadIdx.x % 32;
  // One consumer begins a product later, so that its tiles end while the other's products go on.
  bool gives_start = warpgroup == 0;
  if (!gives_start) device::wait(&s.head_start, 0);
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    Sums sums;
    // Stages are given back one product later, when it is known to be over.
    int former = -1;
    const auto give_back = [&] {
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
      give_back();
      former = stage.idx;
      stage.advance();
      if (gives_start && threadIdx.x == 0) device::arrive(&s.head_start);
      gives_start = false;
    }
    device::wait_products<0>();
    device::hold(sums);
    give_back();
    const LinearTile tile = find_tile(sizes, item, rank);
    epilogue.finish(sums, tile, tile.first_row + warpgroup * kConsumerRows, outlet);
  }
  if (threadIdx.x % 128 == 0) device::wait_stores_read();
}

template <typename Epilogue>
__global__ void __cluster_dims__(kClusterSize) __launch_bounds__(kThreads, 1)
    fused_linear_kernel(const __grid_constant__ CUtensorMap x_map,
                        const __grid_constant__ CUtensorMap weight_map, const LinearSizes sizes,
                        const __grid_constant__ Epilogue epilogue) {
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
    device::init_barrier(&s.head_start, 1);
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == kConsumers) {
    device::lower_registers<kProducerRegisters>();
    if (device::warp_uniform(threadIdx.x % 128 / 32) == 0 && device::is_elected()) {
      produce(x_map, weight_map, sizes, epilogue, s, rank);
    }
    __syncwarp();
  } else {
    device::raise_registers<kConsumerRegisters>();
    consume(sizes, epilogue, s, rank, warpgroup);
  }
  // A block must outlive what its neighbour sends it.
  device::sync_cluster();
}

int ceil_divide(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

CUtensorMap map_rows(const void* g_data, std::int64_t rows, std::int64_t k) {
  return make_tensor_map(g_data, std::array<std::int64_t, 2>{k, rows},
                         std::array<std::int64_t, 1>{k * 2}, std::array<int, 2>{kDepth, kTileRows});
}

// Of rank 4 for the sake of load_tile_to.
CUtensorMap map_weight(const void* g_weight, std::int64_t n, std::int64_t k) {
  return make_tensor_map(g_weight, std::array<std::int64_t, 4>{k, n, 1, 1},
                         std::array<std::int64_t, 3>{k * 2, n * k * 2, n * k * 2},
                         std::array<int, 4>{kDepth, kHalf, 1, 1});
}

// Results: planes of rows, each of `columns` elements.
CUtensorMap map_results(void* g_out, std::int64_t columns, std::int64_t rows, std::int64_t planes,
                        std::int64_t plane_rows) {
  return make_tensor_map(g_out, std::array<std::int64_t, 3>{columns, rows, planes},
                         std::array<std::int64_t, 2>{columns * 2, plane_rows * columns * 2},
                         std::array<int, 3>{64, kConsumerRows, 1});
}

template <typename Epilogue>
void launch(const CUtensorMap& x_map, const CUtensorMap& weight_map, const LinearSizes& sizes,
            const Epilogue& epilogue, int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(LinearMemory);
  check(cudaFuncSetAttribute(fused_linear_kernel<Epilogue>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "asking for shared memory");
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

// Sizes that int coordinates and the number of a tile have room for.
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
  const CUtensorMap out_map =
      map_results(params.g_out, params.features, params.rows, 1, params.rows);
  const LinearSizes sizes = find_sizes(params.rows, params.features / kHalf, params.k);
  const auto features = static_cast<int>(params.features);
  const auto launch_with = [&]<Activation kActivation>() {
    launch(x_map, weight_map, sizes, Gate<kActivation>{out_map, features}, num_multiprocessors,
           stream);
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
  const auto map_heads = [&](void* g_data) {
    return map_results(static_cast<__nv_bfloat16*>(g_data) + params.offset * kHalf, kHalf,
                       params.tokens, params.heads, params.total);
  };
  const SplitQkv epilogue{.q_map = map_heads(params.g_q),
                          .k_map = map_heads(params.g_k),
                          .v_map = map_heads(params.g_v),
                          .g_q_weight = params.g_q_weight,
                          .g_k_weight = params.g_k_weight,
                          .g_cos = params.g_cos,
                          .g_sin = params.g_sin,
                          .tokens = static_cast<int>(params.tokens),
                          .heads = static_cast<int>(params.heads),
                          .eps = params.eps};
  const std::int64_t column_tiles = params.heads + (params.heads + 1) / 2;
  launch(x_map, weight_map, find_sizes(params.tokens, column_tiles, params.k), epilogue,
         num_multiprocessors, stream);
}

}  // namespace mochi::cuda::sm90
