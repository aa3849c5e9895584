#include "cli/command_observer.h"

#include "cli/terminal.h"

namespace mochi::cli {

MessageFn message_printer(bool is_quiet, bool is_verbose) {
  return [is_quiet, is_verbose](MessageLevel level, std::string_view text) {
    if (is_quiet || (level == MessageLevel::kDebug && !is_verbose)) return;
    tell("{}{}", level == MessageLevel::kWarning ? "warning: " : "", text);
  };
}

}  // namespace mochi::cli
