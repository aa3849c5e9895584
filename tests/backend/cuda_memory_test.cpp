// A GPU's memory and its queues: limits, prefetching concurrently with other work, captured
// operations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "support/device_tensors.h"

namespace mochi {
namespace {

class CudaMemoryTest : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (!IsSkipped()) backend_ = make();
  }
  Tensor filled(float value, std::int64_t size) const {
    const Tensor host(DType::kF32, {size});
    std::ranges::fill(host.view().f32(), value);
    return to_activation(*backend_, host);
  }

  std::unique_ptr<Backend> backend_;
};

INSTANTIATE_TEST_SUITE_P(On, CudaMemoryTest, cuda_backends(), name_of_case);

TEST_P(CudaMemoryTest, ALimitHoldsAndTheErrorNamesTheSizes) {
  constexpr std::uint64_t kMebibyte = 1U << 20;
  const std::unique_ptr<Backend> limited = make_backend(
      Device::kCuda, {.activation_dtype = dtype(), .memory_limit_bytes = (1024 + 100) * kMebibyte});
  const std::uint64_t own = limited->memory().used_bytes;  // memory of the backend itself
  ASSERT_LT(own, 60 * kMebibyte);
  EXPECT_EQ(limited->memory().available_bytes, 100 * kMebibyte - own);
  const Tensor first(DType::kU8, {30 << 20}, limited->allocator());
  EXPECT_EQ(limited->memory().used_bytes, own + 30 * kMebibyte);
  expect_contains(message_of<OutOfMemory>(
                      [&] { const Tensor more(DType::kU8, {80 << 20}, limited->allocator()); }),
                  "GPU memory: wanted 81 MiB more, in use are");
  const Tensor rest(DType::kU8, {10 << 20}, limited->allocator());
  EXPECT_EQ(limited->memory().peak_bytes, own + 40 * kMebibyte);
  expect_contains(message_of<Error>([&] {
                    make_backend(Device::kCuda, {.activation_dtype = dtype(),
                                                 .memory_limit_bytes = 1000 * kMebibyte});
                  }),
                  "vram_limit_bytes: wanted more than the 1024 MiB");
}

TEST_P(CudaMemoryTest, TooLargeAllocationsAreRefusedAndLaterOnesWork) {
  const auto too_much = static_cast<std::int64_t>(backend_->memory().available_bytes) * 2;
  EXPECT_THROW(Tensor(DType::kU8, {too_much}, backend_->allocator()), OutOfMemory);
  const Tensor x = filled(2.0F, 100);
  backend_->add(x, x, x);
  EXPECT_EQ(to_host(*backend_, x), std::vector<float>(100, 4.0F));
}

// Each fetch waits for the operations that still read the target, and later operations wait for the
// fetch.
TEST_P(CudaMemoryTest, PrefetchesComeInOrderWithTheWork) {
  constexpr std::int64_t kSize = 1 << 22;
  constexpr int kNumRounds = 12;
  std::vector<Tensor> sources;
  for (int i = 0; i < kNumRounds; ++i) {
    const Tensor value = filled(static_cast<float>(i), kSize);
    sources.emplace_back(dtype(), Shape{kSize}, backend_->staging_allocator());
    backend_->download(value, sources.back());
  }
  const Tensor slots[2] = {filled(-1, kSize), filled(-1, kSize)};
  const Tensor sum = filled(0, kSize);
  backend_->prefetch(0, sources[0], slots[0]);
  for (int i = 0; i < kNumRounds; ++i) {
    backend_->await_prefetch(i % 2);
    if (i + 1 < kNumRounds) {
      const auto next = static_cast<std::size_t>(i + 1);
      backend_->prefetch((i + 1) % 2, sources[next], slots[next % 2]);
    }
    backend_->add(sum, slots[i % 2], sum);
  }
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(kSize, 66.0F));
}

// Each copy waits for the operations before it, and operations that overwrite its source wait for
// the copy.
TEST_P(CudaMemoryTest, WriteBacksComeInOrderWithTheWork) {
  constexpr std::int64_t kSize = 1 << 22;
  constexpr int kNumRounds = 12;
  std::vector<Tensor> hosts;
  for (int i = 0; i < kNumRounds; ++i) {
    hosts.emplace_back(dtype(), Shape{kSize}, backend_->staging_allocator());
  }
  const Tensor slots[2] = {filled(0, kSize), filled(1, kSize)};
  const Tensor two = filled(2, kSize);
  for (int i = 0; i < kNumRounds; ++i) {
    if (i >= 2) {
      backend_->await_write_back(i % 2);
      backend_->add(slots[i % 2], two, slots[i % 2]);
    }
    backend_->write_back(i % 2, slots[i % 2], hosts[static_cast<std::size_t>(i)]);
  }
  for (int slot = 0; slot < 2; ++slot) backend_->await_write_back(slot);
  backend_->synchronize();
  for (int i = 0; i < kNumRounds; ++i) {
    const Tensor back(dtype(), {kSize}, backend_->allocator());
    backend_->upload(hosts[static_cast<std::size_t>(i)], back);
    EXPECT_EQ(to_host(*backend_, back), std::vector<float>(kSize, static_cast<float>(i))) << i;
  }
}

// Copies to the device are part of a captured graph if the graph waits for them.
TEST_P(CudaMemoryTest, PrefetchesCanBeCaptured) {
  const Tensor value = filled(3, 1000);
  Tensor source(dtype(), Shape{1000}, backend_->staging_allocator());
  backend_->download(value, source);
  const Tensor slot = filled(-1, 1000);
  const Tensor sum = filled(0, 1000);
  const std::unique_ptr<CapturedGraph> graph = backend_->capture([&] {
    backend_->prefetch(4, source, slot);
    backend_->await_prefetch(4);
    backend_->add(sum, slot, sum);
  });
  backend_->synchronize();
  std::memset(source.view().bytes(), 0, source.view().size_bytes());
  EXPECT_TRUE(graph->replay());
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 3.0F));
}

TEST_P(CudaMemoryTest, ACapturedGraphUsesTheCurrentValues) {
  const Tensor x = filled(1, 1000);
  const Tensor sum = filled(0, 1000);
  const std::unique_ptr<CapturedGraph> graph = backend_->capture([&] {
    backend_->add(sum, x, sum);
    backend_->add(sum, x, sum);
  });
  ASSERT_NE(graph, nullptr);
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 2.0F));
  backend_->copy(filled(5, 1000), x);
  EXPECT_TRUE(graph->replay());
  EXPECT_TRUE(graph->replay());
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 22.0F));
}

TEST_P(CudaMemoryTest, AnErrorDuringCaptureLeavesTheBackendUsable) {
  const Tensor x = filled(1, 10);
  const Tensor other = filled(1, 11);
  EXPECT_THROW(backend_->capture([&] {
    backend_->add(x, x, x);
    backend_->add(x, other, x);
  }),
               Error);
  backend_->add(x, x, x);
  EXPECT_EQ(to_host(*backend_, x), std::vector<float>(10, 2.0F));
}

// Every stored dtype, in more than one buffer, at an odd address.
TEST_P(CudaMemoryTest, StoredWeightsAreConvertedAsOnTheHost) {
  const std::unique_ptr<WeightLoader> loader = backend_->make_weight_loader();
  ASSERT_NE(loader, nullptr);
  constexpr std::int64_t kSize = (std::int64_t{33} << 20) + 7;
  std::vector<std::byte> bytes(kSize + 1);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 2654435761U >> 13);
  const Tensor target(dtype(), {kSize}, backend_->allocator());
  loader->load(DType::kF8E4M3, std::span(bytes).subspan(1), target);
  loader->finish();
  const std::vector<float> values = to_host(*backend_, target);
  const std::map<int, float> known{{0x00, 0.0F},  {0x38, 1.0F},    {0xb8, -1.0F},
                                   {0x41, 2.25F}, {0x01, 0x1p-9F}, {0x7e, 448.0F}};
  int num_known = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto wanted = known.find(std::to_integer<int>(bytes[i + 1]));
    if (wanted == known.end()) continue;
    ASSERT_EQ(values[i], wanted->second) << i;
    ++num_known;
  }
  EXPECT_GT(num_known, kSize / 100);
}

TEST_P(CudaMemoryTest, NormalValuesEqualTheHostsBitForBit) {
  const std::unique_ptr<Backend> cpu = make_backend(Device::kCpu);
  constexpr std::int64_t kSize = 1'000'003;
  const NormalFill fill{.seed = 12345, .mean = 0.5F, .deviation = 0.02F};
  const Tensor wanted(DType::kF32, {kSize});
  cpu->fill_normal(fill, wanted);
  const Tensor found(DType::kF32, {kSize}, backend_->allocator());
  backend_->fill_normal(fill, found);
  EXPECT_TRUE(std::ranges::equal(to_host(*backend_, found), wanted.view().f32()));

  const Tensor wanted_matrix(dtype(), {kSize});
  cpu->fill_normal(fill, wanted_matrix);
  const Tensor found_matrix(dtype(), {kSize}, backend_->allocator());
  backend_->fill_normal(fill, found_matrix);
  const Tensor host(dtype(), {kSize});
  backend_->download(found_matrix, host);
  EXPECT_EQ(std::memcmp(host.view().bytes(), wanted_matrix.view().bytes(),
                        wanted_matrix.view().size_bytes()),
            0);
}

}  // namespace
}  // namespace mochi
