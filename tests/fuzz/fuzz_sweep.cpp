// Any text as one line of a sweep file.
#include "cli/generate_options.h"
#include "cli/sweep.h"
#include "fuzz_support.h"

namespace mochi {

int fuzz(std::span<const std::byte> bytes) {
  static const cli::GenerateOptions base;
  const std::string line(as_text(bytes));
  expect_result_or_error([&] { cli::parse_sweep_line(line, "line 1", base); });
  return 0;
}

}  // namespace mochi
