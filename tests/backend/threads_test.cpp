// Which threads the CPU backend runs in.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "base/parallel_for.h"
#include "vae_ops_fixture.h"

namespace mochi {
namespace {

std::multiset<std::string> thread_names() {
  std::multiset<std::string> names;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, name);
    names.insert(name);
  }
  return names;
}

// oneDNN would open OpenMP regions, whose threads spin at barriers.
TEST_P(VaeOps, OnlyWorkersOfParallelForCompute) {
  if (!is_cpu()) GTEST_SKIP() << "no CPU backend";
  const std::size_t num_other = thread_names().size() - thread_names().count("mochi-worker");
  set_num_threads(3);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = random_tensor({4, 34, 36, 24}, 1);
    Tensor weight(dtype, {40, 24, 3, 3, 3});
    std::memset(weight.view().bytes(), 0, weight.view().size_bytes());
    const Tensor conv_out(DType::kF32, {2, 32, 34, 40});
    backend_->run(ops::Conv3d{.x = x, .weight = weight, .out = conv_out});
    const TensorView matrix = weight.view().reshape({40, 648});
    const Tensor rows = random_tensor({500, 648}, 2);
    const Tensor linear_out(DType::kF32, {500, 40});
    backend_->run(ops::Linear{.x = rows, .weight = matrix, .out = linear_out});
  }
  EXPECT_EQ(thread_names().count("mochi-worker"), 2U);
  EXPECT_EQ(thread_names().size(), num_other + 2);
}

}  // namespace
}  // namespace mochi
