// Helpers of the tests of operations.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "support/backend_case.h"
#include "support/relative_error.h"

namespace mochi {

class OpsFixture : public OnBackend {
 protected:
  Tensor random_f32(const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::normal_distribution<float> normal;
    for (float& value : tensor.view().f32()) value = normal(generator_);
    return tensor;
  }
  // Returns values that are exact in the case's dtype, so that an error is the operation's own.
  Tensor random(const Shape& shape) {
    Tensor tensor = random_f32(shape);
    round(tensor);
    return tensor;
  }
  // Returns a tensor of NaNs, so that an element that nobody writes shows.
  static Tensor poisoned(const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::ranges::fill(tensor.view().f32(), std::nanf(""));
    return tensor;
  }
  static Tensor ints(const std::vector<std::int32_t>& values, const Shape& shape) {
    Tensor tensor(DType::kI32, shape);
    std::memcpy(tensor.view().bytes(), values.data(), values.size() * sizeof(std::int32_t));
    return tensor;
  }
  static const std::int32_t* data(const Tensor& tensor) {
    return reinterpret_cast<const std::int32_t*>(tensor.view().bytes());
  }

  // See limit() about `factor`.
  void expect_near(const TensorView& got, const std::vector<double>& want, double cpu_limit,
                   double factor = 1.0) const {
    EXPECT_LE(relative_error(got.f32(), want), limit(cpu_limit, factor));
  }

  std::mt19937 generator_{7};
};

}  // namespace mochi
