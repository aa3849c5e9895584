// Dense attention.
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/kernels/attention_on_hopper.cuh"

namespace mochi::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kTiles = 2;

}  // namespace

void run(Gpu& gpu, const ops::Attention& op) {
  if (op.to.out.num_elements() == 0) return;
  if (gpu.activation_dtype() == DType::kF32) {
    attend_simply(make_params<float>(op.in, op.to), gpu.stream());
    return;
  }
  if (gpu.is_hopper() && fits_hopper(op.in)) {
    sm90::launch_attention(attention_on_hopper(op.in, op.to), gpu.num_multiprocessors(),
                           gpu.stream());
    return;
  }
  const auto params = make_params<Bf16>(op.in, op.to);
  if (!fits_mma(op.in)) {
    attend_simply(params, gpu.stream());
  } else if (op.in.bias) {
    attend_by_mma<kWarps, kTiles, false, true>(params, gpu.stream());
  } else {
    attend_by_mma<kWarps, kTiles, false, false>(params, gpu.stream());
  }
}
template void compute(Gpu&, const ops::Attention&);

}  // namespace mochi::cuda
