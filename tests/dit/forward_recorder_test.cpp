#include "dit/forward_recorder.h"

#include <gtest/gtest.h>

namespace mochi {
namespace {

// Where nothing can be recorded, the work is done each time.
TEST(ForwardRecorder, DoesTheWorkOfEveryCall) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  ForwardRecorder recorder;
  const std::byte memory[2]{};
  int num_runs = 0;
  for (int i = 0; i < 3; ++i) {
    recorder.run(*backend, Branch::kCond, {{memory}}, [&] { ++num_runs; });
    recorder.run(*backend, Branch::kNull, {{memory + 1}}, [&] { ++num_runs; });
  }
  EXPECT_EQ(num_runs, 6);
}

}  // namespace
}  // namespace mochi
