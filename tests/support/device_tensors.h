// Copies between host values and tensors of any backend, for tests whose tensors are on the device.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "support/backend_case.h"

namespace mochi {

// Returns a copy of F32 or I32 host values on the backend's device, with the same dtype.
inline Tensor to_device(Backend& backend, const TensorView& host) {
  Tensor result(host.dtype(), host.shape(), backend.allocator());
  backend.run(ops::Upload{.host = host, .target = result});
  return result;
}

// Returns F32 host values as activations.
inline Tensor to_activation(Backend& backend, const TensorView& host) {
  const Tensor raw = to_device(backend, host);
  Tensor result(backend.activation_dtype(), host.shape(), backend.allocator());
  backend.run(ops::Copy{.source = raw, .target = result});
  return result;
}

// Returns the values of a tensor, F32 or activations.
inline std::vector<float> to_host(Backend& backend, const TensorView& tensor) {
  const Tensor host(DType::kF32, tensor.shape());
  if (tensor.dtype() == DType::kF32) {
    backend.run(ops::Download{.source = tensor, .host = host});
  } else {
    const Tensor raw(DType::kF32, tensor.shape(), backend.allocator());
    backend.run(ops::Copy{.source = tensor, .target = raw});
    backend.run(ops::Download{.source = raw, .host = host});
  }
  return {host.view().f32().begin(), host.view().f32().end()};
}

// Runs over backends whose tensors stay on their device.
class OnDevice : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (GetParam().device.is_cpu()) return;
    const std::string problem = find_cuda_problem();
    if (!problem.empty()) GTEST_SKIP() << "no CUDA here: " << problem;
  }
  DType dtype() const { return GetParam().dtype; }
  static std::unique_ptr<Backend> make() {
    return make_backend(GetParam().device, {.activation_dtype = GetParam().dtype,
                                            .memory_limit_bytes = 0,
                                            .is_portable = GetParam().is_portable});
  }
};

// Adds the CPU's backend to compare with.
class BesideCpu : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (IsSkipped()) return;
    backend_ = make();
    cpu_ = make_backend(Device::cpu());
  }

  std::unique_ptr<Backend> backend_, cpu_;
};

}  // namespace mochi
