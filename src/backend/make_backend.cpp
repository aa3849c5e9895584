#include "backend/backend.h"
#include "backend/cpu/make_cpu_backend.h"
#include "backend/cuda/make_cuda_backend.h"

namespace mochi {

std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options) {
  return device.is_cpu() ? make_cpu_backend(device) : make_cuda_backend(device, options);
}

}  // namespace mochi
