// Tests that need tensors on the GPU: order, waiting, memory, size. The operations themselves are
// tested through the mirror.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "support/device_tensors.h"
#include "support/relative_error.h"

namespace mochi {
namespace {

class CudaBackendTest : public BesideCpu {
 protected:
  // Returns normal values, exact in the dtype of the case.
  Tensor random(const Shape& shape, float scale = 1.0F) {
    Tensor tensor(DType::kF32, shape);
    std::normal_distribution<float> normal(0.0F, scale);
    for (float& value : tensor.view().f32()) value = normal(generator_);
    round_to(dtype(), tensor);
    return tensor;
  }
  Tensor on_gpu(const Shape& shape) const { return Tensor(dtype(), shape, backend_->allocator()); }
  Tensor to_gpu(const TensorView& host) const { return to_activation(*backend_, host); }
  std::vector<float> to_host(const TensorView& activations) const {
    return mochi::to_host(*backend_, activations);
  }

  std::mt19937 generator_{11};
};

INSTANTIATE_TEST_SUITE_P(On, CudaBackendTest, cuda_backends(), name_of_case);

TEST_P(CudaBackendTest, CopiesConvertBothWays) {
  const Tensor x = random({1001});
  EXPECT_TRUE(std::ranges::equal(to_host(to_gpu(x)), x.view().f32()));
  // Rounding is to nearest, ties to even: 1 + 2^-8 is halfway between two BF16 values, as is 1 +
  // 3·2^-8.
  const Tensor ties(DType::kF32, {2});
  ties.view().f32()[0] = 1.0F + 0x1p-8F;
  ties.view().f32()[1] = 1.0F + 0x3p-8F;
  const std::vector<float> want = dtype() == DType::kF32
                                      ? std::vector{1.0F + 0x1p-8F, 1.0F + 0x3p-8F}
                                      : std::vector{1.0F, 1.0F + 0x1p-6F};
  EXPECT_EQ(to_host(to_gpu(ties)), want);
}

// Operations are launched one after another without waiting. Each must see the results of those
// before it, and freed memory must not be reused while it is still being read.
TEST_P(CudaBackendTest, OperationsSeeEarlierResults) {
  constexpr int kRows = 512;
  constexpr int kWidth = 768;
  constexpr int kNumLayers = 12;
  const Tensor start = random({kRows, kWidth});
  const Tensor weight = random({kWidth, kWidth}, 1.0F / std::sqrt(static_cast<float>(kWidth)));
  const Tensor gate = random({kWidth});
  const auto run = [&](Backend& backend, const Tensor& x, const TensorView& w, const TensorView& g,
                       bool is_waiting) {
    const auto wait = [&] {
      if (is_waiting) backend.device().synchronize();
    };
    for (int layer = 0; layer < kNumLayers; ++layer) {
      // Freed at the end of each iteration, and the next iteration gets the same memory.
      const Tensor y(backend.activation_dtype(), x.view().shape(), backend.allocator());
      const Tensor z(backend.activation_dtype(), x.view().shape(), backend.allocator());
      backend.run(ops::NormModulate{.x = x, .scale = g, .eps = 1e-5F, .out = y});
      wait();
      backend.run(ops::Linear{.x = y, .weight = w, .out = z});
      wait();
      backend.run(ops::Silu{.x = z, .out = z});
      wait();
      backend.run(ops::GatedResidual{.r = z, .gate = g, .x = x, .eps = 1e-5F});
      wait();
    }
  };
  const Tensor gpu_weight = to_gpu(weight);
  const Tensor gpu_gate = to_gpu(gate);
  const Tensor unwaiting = to_gpu(start);
  run(*backend_, unwaiting, gpu_weight, gpu_gate, false);
  const Tensor waiting = to_gpu(start);
  run(*backend_, waiting, gpu_weight, gpu_gate, true);
  EXPECT_EQ(to_host(unwaiting), to_host(waiting));
  run(*cpu_, start, weight, gate, false);
  EXPECT_LE(relative_error(to_host(unwaiting), start.view().f32()), 4 * GetParam().floor);
}

TEST_P(CudaBackendTest, TheSameCallGivesTheSameBits) {
  const Tensor q = to_gpu(random({4, 1000, 128}));
  const Tensor k = to_gpu(random({4, 1000, 128}));
  const Tensor v = to_gpu(random({4, 1000, 128}));
  const Tensor x = to_gpu(random({1000, 512}));
  const Tensor weight = to_gpu(random({384, 512}));
  const Tensor frames = to_gpu(random({2, 32, 48, 64}));
  const Tensor norm_weight(DType::kF32, {64}, backend_->allocator());
  backend_->run(ops::Upload{.host = random({64}), .target = norm_weight});
  const auto run = [&] {
    const Tensor attended = on_gpu({1000, 512});
    backend_->run(ops::Attention{.in = {q, k, v, {}, 0.1F}, .to = {attended}});
    const Tensor product = on_gpu({1000, 384});
    backend_->run(ops::Linear{.x = x, .weight = weight, .out = product});
    const Tensor normed = on_gpu({2, 34, 50, 64});
    backend_->run(
        ops::GroupNorm{.x = frames, .weight = norm_weight, .bias = norm_weight, .out = normed});
    const Tensor means = on_gpu({1, 512});
    backend_->run(ops::MeanRows{.x = x, .out = means});
    std::vector<float> result = to_host(attended);
    for (const Tensor* other : {&product, &normed, &means}) {
      const std::vector<float> values = to_host(*other);
      result.insert(result.end(), values.begin(), values.end());
    }
    return result;
  };
  const std::vector<float> first = run();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(run(), first);
}

TEST_P(CudaBackendTest, RefusesTensorsOfTheHost) {
  const Tensor x = random({4, 4});
  try {
    backend_->run(ops::Silu{.x = Tensor(dtype(), {4, 4}), .out = on_gpu({4, 4})});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "silu: x is on another device");
  }
  EXPECT_THROW(backend_->run(ops::Upload{.host = on_gpu({4}), .target = on_gpu({4})}), Error);
  EXPECT_THROW(backend_->run(ops::Download{.source = on_gpu({4}), .host = on_gpu({4})}), Error);
}

TEST_P(CudaBackendTest, MemoryIsLimitedAndCountedAndUsableAfterwards) {
  constexpr std::int64_t kMegabyte = std::int64_t{1} << 20;
  constexpr std::size_t kLimitMegabytes = 3072;  // CUDA itself takes some of it
  const std::unique_ptr<Backend> small =
      make_backend(Device::cuda(), {.activation_dtype = dtype(),
                                    .memory_limit_bytes = kLimitMegabytes * kMegabyte,
                                    .is_portable = GetParam().is_portable});
  const std::uint64_t own_bytes =
      small->device().memory().used_bytes;  // memory of the backend itself
  std::size_t first_count = 0;
  for (int i = 0; i < 3; ++i) {
    std::vector<Tensor> blocks;
    const auto fill = [&] {
      while (blocks.size() <= kLimitMegabytes / 64) {
        blocks.emplace_back(DType::kU8, Shape{64 * kMegabyte}, small->allocator());
      }
    };
    EXPECT_THROW(fill(), Error);
    EXPECT_GT(blocks.size(), 8U);
    EXPECT_EQ(small->device().memory().used_bytes, own_bytes + blocks.size() * 64 * kMegabyte);
    if (i == 0) first_count = blocks.size();
    EXPECT_EQ(blocks.size(), first_count);
  }
  const Tensor ones(DType::kF32, {4});
  std::ranges::fill(ones.view().f32(), 1.0F);
  const Tensor there(DType::kF32, {4}, small->allocator());
  const Tensor back(DType::kF32, {4});
  small->run(ops::Upload{.host = ones, .target = there});
  small->run(ops::Download{.source = there, .host = back});
  EXPECT_TRUE(std::ranges::equal(back.view().f32(), ones.view().f32()));
}

// Elements after the 2^31st must be addressed correctly, too.
TEST_P(CudaBackendTest, IndicesDoNotOverflow) {
  if (dtype() == DType::kF32) GTEST_SKIP() << "the same code as of BF16, and twice the memory";
  constexpr std::int64_t kWidth = 3072;
  constexpr std::int64_t kRows = 700'000;
  Tensor x;
  Tensor y;
  try {
    x = on_gpu({kRows, kWidth});
    y = on_gpu({kRows, kWidth});
  } catch (const OutOfMemory& error) {
    GTEST_SKIP() << error.what();
  }
  const TensorView last_x = x.view().rows(kRows - 2, kRows);
  const TensorView last_y = y.view().rows(kRows - 2, kRows);
  const Tensor rows = random({2, kWidth});
  const Tensor small = to_gpu(rows);
  const Tensor small_out = on_gpu({2, kWidth});
  const Tensor vector = to_gpu(random({kWidth}));
  backend_->run(ops::Copy{.source = small, .target = last_x});
  const auto expect_same_as_small = [&](const char* op) {
    EXPECT_EQ(to_host(last_y), to_host(small_out)) << op;
    backend_->run(
        ops::Copy{.source = small, .target = last_y});  // so that the next one has to write
  };
  backend_->run(ops::Silu{.x = x, .out = y});
  backend_->run(ops::Silu{.x = small, .out = small_out});
  expect_same_as_small("silu");
  backend_->run(ops::Add{.a = x, .b = x, .out = y});
  backend_->run(ops::Add{.a = small, .b = small, .out = small_out});
  expect_same_as_small("add");
  backend_->run(ops::Copy{.source = x, .target = y});
  backend_->run(ops::Copy{.source = small, .target = small_out});
  expect_same_as_small("copy");
  backend_->run(ops::NormModulate{.x = x, .scale = vector, .eps = 1e-5F, .out = y});
  backend_->run(ops::NormModulate{.x = small, .scale = vector, .eps = 1e-5F, .out = small_out});
  expect_same_as_small("norm_modulate");
  backend_->run(
      ops::LayerNormModulate{.x = x, .shift = vector, .scale = vector, .eps = 1e-5F, .out = y});
  backend_->run(ops::LayerNormModulate{
      .x = small, .shift = vector, .scale = vector, .eps = 1e-5F, .out = small_out});
  expect_same_as_small("layer_norm_modulate");
  backend_->run(ops::Copy{.source = small, .target = small_out});
  backend_->run(ops::GatedResidual{.r = x, .gate = vector, .x = y, .eps = 1e-5F});
  backend_->run(ops::GatedResidual{.r = small, .gate = vector, .x = small_out, .eps = 1e-5F});
  expect_same_as_small("gated_residual");
}

// If an x of 1 were rounded to BF16's spacing, a sine of 2^7 periods would shift by half a period.
TEST_P(CudaBackendTest, FourierFeaturesTakeUnroundedFrames) {
  const std::vector<int> frequencies{6, 7};
  const Tensor x(DType::kF32, {2, 3, 5, 3});
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  for (float& value : x.view().f32()) value = uniform(generator_);
  const Shape shape{2, 3, 5, 15};
  const Tensor want(DType::kF32, shape);
  cpu_->run(ops::FourierFeatures{.x = x, .frequencies = frequencies, .out = want});
  const Tensor out = on_gpu(shape);
  backend_->run(
      ops::FourierFeatures{.x = to_device(*backend_, x), .frequencies = frequencies, .out = out});
  EXPECT_LE(relative_error(to_host(out), want.view().f32()), 3e-3);
}

}  // namespace
}  // namespace mochi
