// Helpers that the fuzz targets share. Input may be refused with an Error; anything else that is
// thrown ends the target, and so counts as a find.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <span>
#include <string_view>

#include "base/error.h"

namespace mochi {

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Ends the target where a promise is broken.
inline void require(bool is_kept) {
  if (!is_kept) std::abort();
}

// Calls `use`; whether it accepted its input. An Error must say something, on one line.
template <typename Use>
bool expect_result_or_error(const Use& use) {
  try {
    use();
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    require(!message.empty() && message.find_first_of("\n\r\033") == std::string_view::npos);
    return false;
  }
}

// One input; each target defines it. Returns 0, or -1 for an input that shall not be built upon.
int fuzz(std::span<const std::byte> bytes);

}  // namespace mochi
