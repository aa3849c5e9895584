#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/make_cuda_backend.h"

namespace mochi {

std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options) {
  if (device == Device::kCuda) return make_cuda_backend(options);
  return std::make_unique<CpuBackend>();
}

}  // namespace mochi
