// Helpers of the tests of the VAE's operations.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <span>
#include <vector>

#include "backend/ops_fixture.h"
#include "base/parallel_for.h"

namespace mochi {

// Returns element (t, h, w, c) of a rank-4 tensor.
inline double at(const TensorView& x, std::int64_t t, std::int64_t h, std::int64_t w,
                 std::int64_t c) {
  return x.f32()[((t * x.dim(1) + h) * x.dim(2) + w) * x.dim(3) + c];
}

class VaeOpsFixture : public OpsFixture {
 protected:
  ~VaeOpsFixture() override { set_num_threads(0); }

  // Returns values that are exact in the case's dtype.
  Tensor random_tensor(const Shape& shape, unsigned seed, float offset = 0.0F,
                       float scale = 1.0F) const {
    Tensor tensor(DType::kF32, shape);
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (float& value : tensor.view().f32()) value = offset + scale * normal(generator);
    round(tensor);
    return tensor;
  }

  // Returns true if `run` writes the same bits to `out` with one, two and three threads.
  static bool is_repeatable(const TensorView& out, const std::function<void()>& run) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      run();
      const std::vector<float> result(out.f32().begin(), out.f32().end());
      if (first.empty()) first = result;
      if (result != first) return false;
    }
    return true;
  }
};

using VaeOps = OverBackends<VaeOpsFixture>;

}  // namespace mochi
