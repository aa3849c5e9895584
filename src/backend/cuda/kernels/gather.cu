// Gathers rows of a matrix by their indices.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;

// Copies pieces of a row, as the largest words that its length and alignment allow.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const Word* g_x, const std::int32_t* g_indices, Word* g_out, std::int64_t n,
                  std::int64_t width) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  g_out[i] = g_x[g_indices[i / width] * width + i % width];
}

}  // namespace

void run(Gpu& gpu, const ops::GatherRows& op) {
  if (op.out.num_elements() == 0) return;
  const auto launch = [&]<typename Word>() {
    const auto n = static_cast<std::int64_t>(op.out.size_bytes() / sizeof(Word));
    gather_kernel<Word>
        <<<static_cast<unsigned>((n + kThreads - 1) / kThreads), kThreads, 0, gpu.stream()>>>(
            data_of<const Word>(op.x), data_of<const std::int32_t>(op.indices),
            data_of<Word>(op.out), n, n / op.out.dim(0));
  };
  const std::uintptr_t places = reinterpret_cast<std::uintptr_t>(op.x.bytes()) |
                                reinterpret_cast<std::uintptr_t>(op.out.bytes()) |
                                op.out.size_bytes() / static_cast<std::size_t>(op.out.dim(0));
  if (places % sizeof(uint4) == 0) {
    launch.template operator()<uint4>();
  } else {
    dispatch(gpu.activation_dtype(), launch);
  }
  check_launch("gather_rows");
}
template void compute(Gpu&, const ops::GatherRows&);

}  // namespace mochi::cuda
