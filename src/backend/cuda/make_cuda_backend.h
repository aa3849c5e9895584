// The only door to the CUDA backend; no_cuda/ stands behind it in a build without CUDA.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mochi {

// Throws Error with find_cuda_problem() when there is one.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace mochi
