// The functions that libFuzzer calls.
#include <cstdint>

#include "base/parallel_for.h"
#include "fuzz_support.h"

// Short traces of allocations, and no search for uses of a function's variables after its return
// (the unit tests search for them), double the speed. ASAN_OPTIONS overrules both for a find.
extern "C" const char* __asan_default_options() {
  return "malloc_context_size=2:detect_stack_use_after_return=0";
}

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  mochi::set_num_threads(1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return mochi::fuzz(std::as_bytes(std::span(data, size)));
}
