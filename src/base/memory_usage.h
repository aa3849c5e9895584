#pragma once

#include <cstdint>

namespace mochi {

// Largest resident memory of this process so far, in bytes.
std::uint64_t peak_memory_bytes();

// What the machine can still give without swapping; 0: not known.
std::uint64_t available_memory_bytes();

}  // namespace mochi
