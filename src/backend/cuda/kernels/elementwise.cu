// Operations on single elements.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"

namespace mochi {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) silu_kernel(const T* g_x, T* g_out, std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float x = static_cast<float>(g_x[i]);
  g_out[i] = static_cast<T>(x / (1.0F + __expf(-x)));
}

}  // namespace

void CudaBackend::do_silu(const TensorView& x, const TensorView& out) {
  const std::int64_t n = x.num_elements();
  if (n == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    silu_kernel<T><<<static_cast<unsigned>((n + kThreads - 1) / kThreads), kThreads, 0, stream_>>>(
        cuda::data_of<const T>(x), cuda::data_of<T>(out), n);
  });
  cuda::check_launch("silu");
}

}  // namespace mochi
