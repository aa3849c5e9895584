#pragma once

#include <cstdint>

namespace mochi {

// Largest resident memory of this process so far, in bytes.
std::uint64_t peak_memory_bytes();

}  // namespace mochi
