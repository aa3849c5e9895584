// Sizes of memory as people write them.
#pragma once

#include <cstdint>
#include <string>

namespace mochi::flags {

// "16GB" (powers of ten), "512MiB" (powers of two), "16000000000". Throws UsageError naming the
// flag when it is no such size, or none at all.
std::uint64_t parse_byte_size(const std::string& text, const std::string& flag);

}  // namespace mochi::flags
