// Replaces backend/cuda in a build without CUDA.
#include "backend/cuda/make_cuda_backend.h"
#include "base/error.h"

namespace mochi {

std::string find_cuda_problem() { return "this program was built without CUDA"; }

int count_gpus() { return 0; }

std::unique_ptr<Backend> make_cuda_backend(Device /*device*/, const BackendOptions& /*options*/) {
  throw InvalidRequest("device", find_cuda_problem());
}

}  // namespace mochi
