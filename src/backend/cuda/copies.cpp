// Operations that copy between host and GPU.
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

// Copies on the stream of the other operations and waits.
void copy_and_wait(const Gpu& gpu, const TensorView& source, const TensorView& target,
                   cudaMemcpyKind kind, const char* what) {
  check(cudaMemcpyAsync(target.bytes(), source.bytes(), source.size_bytes(), kind, gpu.stream()),
        what);
  check(cudaStreamSynchronize(gpu.stream()), what);
}

}  // namespace

void run(Gpu& gpu, const ops::Upload& op) {
  copy_and_wait(gpu, op.host, op.target, cudaMemcpyHostToDevice, "copying to the GPU");
}
template void compute(Gpu&, const ops::Upload&);

void run(Gpu& gpu, const ops::Download& op) {
  copy_and_wait(gpu, op.source, op.host, cudaMemcpyDeviceToHost, "copying from the GPU");
}
template void compute(Gpu&, const ops::Download&);

void run(Gpu& /*gpu*/, const ops::Await& op) { op.transfer.await(); }
template void compute(Gpu&, const ops::Await&);

}  // namespace mochi::cuda
