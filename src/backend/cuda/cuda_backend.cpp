// The CUDA backend: every operation is launched on one GPU.
#include <memory>
#include <utility>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/device_scope.h"
#include "backend/cuda/gpu.h"
#include "backend/cuda/make_cuda_backend.h"
#include "backend/cuda_facts.h"
#include "base/error.h"

namespace mochi {

namespace cuda {

void fail_cuda(cudaError_t code, const char* what) {
  fail("GPU: {}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
}

}  // namespace cuda

namespace {

class CudaBackend final : public Launches<CudaBackend, Backend> {
 public:
  explicit CudaBackend(const std::shared_ptr<cuda::Gpu>& gpu) : Launches(gpu), gpu_(*gpu) {}

  template <class Op>
  void launch(const Op& op) {
    const cuda::DeviceScope scope(gpu_.index());
    cuda::compute(gpu_, op);
  }

 private:
  cuda::Gpu& gpu_;  // the base class owns it
};

}  // namespace

std::string find_cuda_problem() {
  CudaFacts facts;
  cudaDriverGetVersion(&facts.driver_version);
  cudaRuntimeGetVersion(&facts.runtime_version);
  cudaError_t code = cudaGetDeviceCount(&facts.num_gpus);
  facts.has_new_enough_driver = code != cudaErrorInsufficientDriver;
  cudaGetLastError();  // clears the error, or the next call would report it again
  const bool is_answer =
      code == cudaSuccess || code == cudaErrorInsufficientDriver || code == cudaErrorNoDevice;
  if (is_answer && facts.num_gpus > 0) {
    cudaDeviceProp properties{};
    code = cudaGetDeviceProperties(&properties, 0);
    facts.gpu_name = properties.name;
    facts.compute_major = properties.major;
    facts.compute_minor = properties.minor;
  }
  if (is_answer && (facts.num_gpus == 0 || code == cudaSuccess)) return find_problem(facts);
  return std::string("the GPU does not answer: ") + cudaGetErrorString(code);
}

int count_gpus() {
  if (!find_cuda_problem().empty()) return 0;
  int num_gpus = 0;
  cuda::check(cudaGetDeviceCount(&num_gpus), "counting the GPUs");
  return num_gpus;
}

std::unique_ptr<Backend> make_cuda_backend(Device device, const BackendOptions& options) {
  const std::string problem = find_cuda_problem();
  if (!problem.empty()) throw InvalidRequest("device", problem);
  const int num_gpus = count_gpus();
  if (device.index >= num_gpus) {
    throw InvalidRequest("device",
                         fmt::format("wanted a GPU from 0 to {} (those of this machine), found {}",
                                     num_gpus - 1, device.index));
  }
  return std::make_unique<CudaBackend>(std::make_shared<cuda::Gpu>(device.index, options));
}

}  // namespace mochi
