#include "cli/command_observer.h"

#include <fmt/format.h>

#include <cstdio>

namespace mochi::cli {

MessageFn message_printer(bool is_quiet) {
  return [is_quiet](MessageLevel level, std::string_view text) {
    if (is_quiet || level == MessageLevel::kDebug) return;
    fmt::print(stderr, "{}{}\n", level == MessageLevel::kWarning ? "warning: " : "", text);
  };
}

}  // namespace mochi::cli
