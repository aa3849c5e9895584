// Dense attention.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/kernels/attention_on_hopper.cuh"

namespace mochi {
namespace {

constexpr int kWarps = 4;
constexpr int kTiles = 2;

}  // namespace

void CudaBackend::do_attention(const AttentionInputs& in, const AttentionOutputs& to) {
  if (to.out.num_elements() == 0) return;
  if (activation_dtype_ == DType::kF32) {
    cuda::attend_simply(cuda::make_problem<float>(in, to), stream_);
    return;
  }
  if (is_hopper() && cuda::fits_hopper(in)) {
    cuda::sm90::launch_attention(cuda::attention_on_hopper(in, to), stream_);
    return;
  }
  const auto problem = cuda::make_problem<cuda::Bf16>(in, to);
  if (!cuda::fits_mma(in)) {
    cuda::attend_simply(problem, stream_);
  } else if (in.bias) {
    cuda::attend_by_mma<kWarps, kTiles, false, true>(problem, stream_);
  } else {
    cuda::attend_by_mma<kWarps, kTiles, false, false>(problem, stream_);
  }
}

}  // namespace mochi
