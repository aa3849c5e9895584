// The only entry to the CPU backend.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mochi {

std::unique_ptr<Backend> make_cpu_backend(Device device);

}  // namespace mochi
