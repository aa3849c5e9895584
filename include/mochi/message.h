// Messages of the engine that are neither results nor errors.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace mochi {

enum class MessageLevel : std::uint8_t {
  kDebug,    // details of how the engine works
  kInfo,     // decisions that explain the speed or the memory of a call
  kWarning,  // something that the caller should know about the result
};

// Receives one line of text, without a line break, valid during the call only.
using MessageFn = std::function<void(MessageLevel level, std::string_view text)>;

}  // namespace mochi
