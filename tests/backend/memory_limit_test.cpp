// The CPU backend where the system refuses memory.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "vae_ops_fixture.h"

namespace mochi {
namespace {

std::size_t address_space_bytes() {
  std::size_t num_pages = 0;
  std::ifstream("/proc/self/statm") >> num_pages;
  return num_pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// oneDNN writes to address 0 where the memory for its generated code is refused.
TEST_P(VaeOps, NoRoomForGeneratedCodeIsAnError) {
  if (!is_cpu()) GTEST_SKIP() << "no CPU backend";
  if (*MOCHI_SANITIZERS != '\0') GTEST_SKIP() << "sanitizers need address space of their own";
  const Tensor x = random_tensor({1, 9, 9, 40}, 1);
  const Tensor weight = random_tensor({40, 40, 1, 2, 2}, 2);
  const Tensor conv_out(DType::kF32, {1, 8, 8, 40});
  const Tensor rows = random_tensor({50, 40}, 3);
  const Tensor linear_out(DType::kF32, {50, 160});
  const TensorView matrix = weight.view().reshape({160, 40});
  for (const bool is_conv : {true, false}) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlim_t limit = address_space_bytes() + (rlim_t{1} << 20);
      const rlimit limits{.rlim_cur = limit, .rlim_max = limit};
      ::setrlimit(RLIMIT_AS, &limits);
      bool has_failed = false;
      try {
        if (is_conv) {
          backend_->run(ops::Conv3d{.x = x, .weight = weight, .out = conv_out});
        } else {
          backend_->run(ops::Linear{.x = rows, .weight = matrix, .out = linear_out});
        }
      } catch (const OutOfMemory&) {
        has_failed = true;
      }
      ::_exit(has_failed ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << (is_conv ? "conv3d" : "linear");
  }
}

}  // namespace
}  // namespace mochi
