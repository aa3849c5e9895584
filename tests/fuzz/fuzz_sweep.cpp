// Any text as one line of a sweep file.
#include "fuzz_support.h"
#include "job/sweep.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string line(reinterpret_cast<const char*>(data), size);
  const mochi::job::JobOptions base;
  mochi::expect_result_or_error([&] { mochi::job::parse_sweep_line(line, "line 1", base); });
  return 0;
}
