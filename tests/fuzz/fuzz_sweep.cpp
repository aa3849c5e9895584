// Any text as one line of a sweep file.
#include "fuzz_support.h"
#include "job/sweep.h"

namespace mochi {

int fuzz(std::span<const std::byte> bytes) {
  static const job::JobOptions base;
  const std::string line(as_text(bytes));
  expect_result_or_error([&] { job::parse_sweep_line(line, "line 1", base); });
  return 0;
}

}  // namespace mochi
