#pragma once

#include <cstdint>

namespace mochi {

// Largest resident memory of this process so far, in bytes.
std::uint64_t peak_memory_bytes();

// Memory that the machine can allocate without swapping; 0 if unknown.
std::uint64_t available_memory_bytes();

}  // namespace mochi
