// The backends that tests of operations run on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "backend/backend.h"
#include "support/mirror_backend.h"
#include "tensor/float_arrays.h"

namespace mochi {

struct BackendCase {
  const char* name;  // a GPU's name begins with "Cuda", which test runs use as a filter
  Device device;
  DType dtype;               // of activations and matrices in the computation
  double floor;              // relative error of one operation that this dtype explains
  bool is_portable = false;  // leaves out the kernels of one architecture
};

inline void PrintTo(const BackendCase& which, std::ostream* out) { *out << which.name; }

// A BF16 result has an error of at most half a unit in the ninth bit, 1.7e-3 on average.
constexpr BackendCase kCpuCase{"Cpu", Device::cpu(), DType::kF32, 0.0};
constexpr BackendCase kCudaF32Case{"CudaF32", Device::cuda(), DType::kF32, 3e-6};
constexpr BackendCase kCudaBF16Case{"CudaBF16", Device::cuda(), DType::kBF16, 3e-3};
constexpr BackendCase kCudaPortableCase{"CudaPortable", Device::cuda(), DType::kBF16, 3e-3, true};

// Values for INSTANTIATE_TEST_SUITE_P.
inline auto all_backends() {
  return testing::Values(kCpuCase, kCudaF32Case, kCudaBF16Case, kCudaPortableCase);
}
inline auto cuda_backends() {
  return testing::Values(kCudaF32Case, kCudaBF16Case, kCudaPortableCase);
}
inline std::string name_of_case(const testing::TestParamInfo<BackendCase>& info) {
  return info.param.name;
}
// Returns test names for Combine(all_backends(), …), such as "CudaF32_3".
template <typename Param>
std::string name_of_combined(const testing::TestParamInfo<std::tuple<BackendCase, Param>>& info) {
  return std::get<0>(info.param).name + ("_" + std::to_string(info.index));
}

// Returns one backend for all tests of a program, so that it shows if one test disturbs the next.
inline Backend& shared_cuda_backend(const BackendCase& which) {
  static std::map<std::string, std::unique_ptr<Backend>> backends;
  std::unique_ptr<Backend>& backend = backends[which.name];
  if (!backend) {
    backend = make_backend(Device::cuda(), {.activation_dtype = which.dtype,
                                            .memory_limit_bytes = 0,
                                            .is_portable = which.is_portable});
  }
  return *backend;
}

// Rounds values as the case's computation gets them.
inline void round_to(DType dtype, const TensorView& f32) {
  if (dtype != DType::kBF16) return;
  for (float& value : f32.f32()) value = bf16_to_f32(f32_to_bf16(value));
}

// A test fixture whose backend takes host tensors in every case.
class OnBackend : public testing::Test {
 protected:
  // Skips the test if there is no such device.
  void open(const BackendCase& which) {
    which_ = which;
    if (which.device.is_cpu()) {
      backend_ = make_backend(Device::cpu());
      return;
    }
    const std::string problem = find_cuda_problem();
    if (!problem.empty()) GTEST_SKIP() << "no CUDA here: " << problem;
    backend_ = make_mirror_backend(shared_cuda_backend(which));
  }
  bool is_cpu() const { return which_.device.is_cpu(); }
  void round(const TensorView& f32) const { round_to(which_.dtype, f32); }

  // Returns the limit of a relative error: `cpu`, or `factor` times the floor, where `factor`
  // counts the roundings of an operation that rounds more than its result.
  double limit(double cpu, double factor = 1.0) const {
    return std::max(cpu, factor * which_.floor);
  }

  BackendCase which_ = kCpuCase;
  std::unique_ptr<Backend> backend_;
};

// Runs over all backends; `Fixture` is an OnBackend.
template <typename Fixture>
class OverBackends : public Fixture, public testing::WithParamInterface<BackendCase> {
 protected:
  void SetUp() override { this->open(GetParam()); }
};

// Runs over all backends × `Param`.
template <typename Fixture, typename Param>
class OverBackendsAnd : public Fixture,
                        public testing::WithParamInterface<std::tuple<BackendCase, Param>> {
 protected:
  void SetUp() override { this->open(std::get<0>(this->GetParam())); }
  const Param& param() const { return std::get<1>(this->GetParam()); }
};

// Runs on the CPU only, for tests of its threads.
template <typename Fixture>
class OnCpu : public Fixture {
 protected:
  void SetUp() override { this->open(kCpuCase); }
};

}  // namespace mochi
