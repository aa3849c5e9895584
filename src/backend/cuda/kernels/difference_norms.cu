// Norms that the sampler decides by. Every thread sums a fixed set of elements, and one block adds
// the sums of all others in a fixed order, so that repeated calls give the same bits.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

#include <algorithm>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kThreads = 256;
constexpr int kMaxBlocks = 264;  // two per multiprocessor of the largest GPUs

struct Sums {
  double difference, norm;
};

// The sum over the block, in thread 0.
__device__ double sum_of_block(double value) {
  __shared__ double s_sums[kThreads / 32];
  const auto warp = cg::tiled_partition<32>(cg::this_thread_block());
  value = cg::reduce(warp, value, cg::plus<double>());
  if (warp.thread_rank() == 0) s_sums[warp.meta_group_rank()] = value;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (const double sum : s_sums) total += sum;
  }
  __syncthreads();
  return total;
}

__global__ void __launch_bounds__(kThreads)
    sum_squares_kernel(const float* g_a, const float* g_b, std::int64_t n, Sums* g_sums) {
  Sums sums{};
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n;
       i += stride) {
    const double b = g_b[i];
    const double difference = g_a[i] - b;
    sums.difference += difference * difference;
    sums.norm += b * b;
  }
  const Sums total{sum_of_block(sums.difference), sum_of_block(sums.norm)};
  if (threadIdx.x == 0) g_sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads)
    add_sums_kernel(const Sums* g_sums, int num_sums, float* g_out) {
  Sums sums{};
  for (int i = static_cast<int>(threadIdx.x); i < num_sums; i += kThreads) {
    sums.difference += g_sums[i].difference;
    sums.norm += g_sums[i].norm;
  }
  const Sums total{sum_of_block(sums.difference), sum_of_block(sums.norm)};
  if (threadIdx.x == 0) {
    g_out[0] = static_cast<float>(sqrt(total.difference));
    g_out[1] = static_cast<float>(sqrt(total.norm));
  }
}

}  // namespace

void run(Gpu& gpu, const ops::DifferenceNorms& op) {
  const std::int64_t n = op.b.num_elements();
  const auto num_blocks =
      static_cast<int>(std::clamp<std::int64_t>((n + kThreads - 1) / kThreads, 1, kMaxBlocks));
  Arena& scratch = op.scratch;
  const Arena::Scope scope(scratch);
  constexpr std::int64_t kFloats = sizeof(Sums) / sizeof(float);
  auto* const g_sums =
      reinterpret_cast<Sums*>(scratch.allocate(DType::kF32, {num_blocks, kFloats}).bytes());
  sum_squares_kernel<<<num_blocks, kThreads, 0, gpu.stream()>>>(
      data_of<const float>(op.a), data_of<const float>(op.b), n, g_sums);
  check_launch("difference_norms");
  add_sums_kernel<<<1, kThreads, 0, gpu.stream()>>>(g_sums, num_blocks, data_of<float>(op.out));
  check_launch("difference_norms");
}
template void compute(Gpu&, const ops::DifferenceNorms&);

}  // namespace mochi::cuda
