#include "backend/cuda_facts.h"

#include <fmt/format.h>

namespace mochi {
namespace {

constexpr int kLeastMajor = 8;  // the first with BF16 matrix instructions and asynchronous copies

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

std::string find_problem(const CudaFacts& facts) {
  if (facts.driver_version == 0) return "this machine has no NVIDIA driver";
  if (!facts.has_new_enough_driver) {
    return fmt::format("the NVIDIA driver is too old: wanted one for CUDA {}, found one for {}",
                       version_text(facts.runtime_version), version_text(facts.driver_version));
  }
  if (facts.num_gpus == 0) return "the NVIDIA driver reports no GPU";
  if (facts.compute_major < kLeastMajor) {
    return fmt::format("the GPU '{}' is too old: wanted compute capability {}.0, found {}.{}",
                       facts.gpu_name, kLeastMajor, facts.compute_major, facts.compute_minor);
  }
  return {};
}

}  // namespace mochi
