// The one exception type of the engine: a single line that names the file, key or flag, what was
// wanted and what was found. Caught at the borders (command line, server, Python).
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace mochi {

class Error : public std::runtime_error {
 public:
  // Control characters, which names from files may hold, are written as \xNN: the message stays
  // one line and cannot steer a terminal.
  explicit Error(const std::string& message);
};

// Memory of the host or of a device that is not there: with less to do, the same may go well.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mochi
