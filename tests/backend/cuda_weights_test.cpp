// Weights on a GPU: loaded, generated from a seed, or prefetched concurrently with other work.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "support/device_tensors.h"
#include "support/relative_error.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

class CudaWeights : public BesideCpu {
 protected:
  std::vector<std::byte> download(const TensorView& tensor) const {
    std::vector<std::byte> bytes(tensor.size_bytes());
    backend_->run(ops::Download{.source = tensor,
                                .host = TensorView(bytes.data(), tensor.dtype(), tensor.shape())});
    return bytes;
  }
  static std::vector<std::byte> bytes_of(const TensorView& host) {
    return {host.bytes(), host.bytes() + host.size_bytes()};
  }
};

INSTANTIATE_TEST_SUITE_P(On, CudaWeights, cuda_backends(), name_of_case);

TEST_P(CudaWeights, ASeedMakesTheSameValuesEverywhere) {
  const Shape shape{1003, 77};
  const Tensor want(dtype(), shape);
  const Tensor got(dtype(), shape, backend_->allocator());
  cpu_->run(ops::FillNormal{.target = want, .seed = 12345, .mean = 0.5F, .deviation = 0.25F});
  backend_->run(ops::FillNormal{.target = got, .seed = 12345, .mean = 0.5F, .deviation = 0.25F});
  EXPECT_EQ(download(got), bytes_of(want));
}

// Covers all stored dtypes, sizes beyond one buffer, and an unaligned source.
TEST_P(CudaWeights, LoadedValuesEqualTheHosts) {
  std::mt19937 generator(3);
  for (const DType stored :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const std::unique_ptr<WeightLoader> loader = backend_->device().make_weight_loader();
    ASSERT_TRUE(loader);
    std::vector<Tensor> targets;
    std::vector<std::vector<float>> wanted;
    for (const std::int64_t n : {1, 1001, 9'000'001}) {
      std::vector<std::byte> bytes(1 + static_cast<std::size_t>(n) * dtype_bytes(stored));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 0x3fU);
      const std::span<const std::byte> source = std::span(bytes).subspan(1);
      std::vector<float>& values = wanted.emplace_back(static_cast<std::size_t>(n));
      convert_to_f32(stored, source, values);
      if (dtype() == DType::kBF16) {
        for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
      }
      loader->load(stored, source, targets.emplace_back(dtype(), Shape{n}, backend_->allocator()));
    }
    loader->finish();
    for (std::size_t i = 0; i < targets.size(); ++i) {
      EXPECT_TRUE(to_host(*backend_, targets[i]) == wanted[i]) << dtype_name(stored) << " " << i;
    }
  }
}

// Two buffers are used in turn, and each is overwritten while matmuls with the other run. Every
// matmul must see its own weights complete.
TEST_P(CudaWeights, PrefetchedWeightsArriveInTimeAndNotTooEarly) {
  constexpr std::int64_t kWidth = 1024;
  constexpr int kNumLayers = 12;
  std::vector<Tensor> layers;
  for (int i = 0; i < kNumLayers; ++i) {
    const Tensor& layer =
        layers.emplace_back(dtype(), Shape{kWidth, kWidth}, backend_->device().staging_allocator());
    cpu_->run(ops::FillNormal{
        .target = layer, .seed = static_cast<std::uint64_t>(i), .deviation = 1.0F / 32});
  }
  const auto run = [&](bool is_prefetching) {
    const Tensor x(dtype(), {256, kWidth}, backend_->allocator());
    const Tensor y(dtype(), {256, kWidth}, backend_->allocator());
    backend_->run(ops::FillNormal{.target = x, .seed = 99});
    std::vector<Tensor> buffers;
    for (int i = 0; i < 2; ++i) {
      buffers.emplace_back(dtype(), Shape{kWidth, kWidth}, backend_->allocator());
    }
    DeviceRuntime& device = backend_->device();
    Transfer fetches[2];
    if (is_prefetching) fetches[0] = device.start_copy(layers[0], buffers[0]);
    for (int i = 0; i < kNumLayers; ++i) {
      if (is_prefetching) {
        if (i + 1 < kNumLayers) {
          fetches[(i + 1) % 2] = device.start_copy(layers[i + 1], buffers[(i + 1) % 2]);
        }
        backend_->run(ops::Await{.transfer = fetches[i % 2]});
      } else {
        backend_->run(ops::Upload{.host = layers[i], .target = buffers[i % 2]});
      }
      backend_->run(ops::Linear{.x = x, .weight = buffers[i % 2], .out = y});
      backend_->run(ops::Silu{.x = y, .out = y});
      backend_->run(ops::Add{.a = x, .b = y, .out = x});
    }
    return to_host(*backend_, x);
  };
  EXPECT_EQ(run(true), run(false));
}

}  // namespace
}  // namespace mochi
