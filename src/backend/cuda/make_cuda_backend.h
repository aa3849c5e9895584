// The only entry to the CUDA backend. A build without CUDA implements it in no_cuda/.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mochi {

// Creates the backend of a GPU. Throws an Error with find_cuda_problem() if there is a problem.
std::unique_ptr<Backend> make_cuda_backend(Device device, const BackendOptions& options);

}  // namespace mochi
