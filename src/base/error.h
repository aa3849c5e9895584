// The engine's exceptions (mochi/error.h) and short ways to throw them.
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>

#include "mochi/error.h"

namespace mochi {

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Returns the system's words for a code of errno, in which a directory is a folder as in all other
// lines.
std::string describe_errno(int code);

// Throws InvalidRequest about a field of the caller's request or options.
template <typename... Args>
[[noreturn]] void refuse(std::string field, fmt::format_string<Args...> format, Args&&... args) {
  throw InvalidRequest(std::move(field), fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mochi
