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
  const std::unique_ptr<Backend> limited =
      make_backend(Device::cuda(),
                   {.activation_dtype = dtype(), .memory_limit_bytes = (1024 + 100) * kMebibyte});
  const std::uint64_t own = limited->device().memory().used_bytes;  // memory of the backend itself
  ASSERT_LT(own, 60 * kMebibyte);
  EXPECT_EQ(limited->device().memory().available_bytes, 100 * kMebibyte - own);
  const Tensor first(DType::kU8, {30 << 20}, limited->allocator());
  EXPECT_EQ(limited->device().memory().used_bytes, own + 30 * kMebibyte);
  expect_contains(message_of<OutOfMemory>(
                      [&] { const Tensor more(DType::kU8, {80 << 20}, limited->allocator()); }),
                  "GPU memory: wanted 81 MiB more, in use are");
  const Tensor rest(DType::kU8, {10 << 20}, limited->allocator());
  EXPECT_EQ(limited->device().memory().peak_bytes, own + 40 * kMebibyte);
  expect_contains(message_of<Error>([&] {
                    make_backend(Device::cuda(), {.activation_dtype = dtype(),
                                                  .memory_limit_bytes = 1000 * kMebibyte});
                  }),
                  "vram_limit_bytes: wanted more than the 1024 MiB");
}

TEST_P(CudaMemoryTest, TooLargeAllocationsAreRefusedAndLaterOnesWork) {
  const auto too_much = static_cast<std::int64_t>(backend_->device().memory().available_bytes) * 2;
  EXPECT_THROW(Tensor(DType::kU8, {too_much}, backend_->allocator()), OutOfMemory);
  const Tensor x = filled(2.0F, 100);
  backend_->run(ops::Add{.a = x, .b = x, .out = x});
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
    sources.emplace_back(dtype(), Shape{kSize}, backend_->device().staging_allocator());
    backend_->run(ops::Download{.source = value, .host = sources.back()});
  }
  const Tensor slots[2] = {filled(-1, kSize), filled(-1, kSize)};
  const Tensor sum = filled(0, kSize);
  DeviceRuntime& device = backend_->device();
  Transfer fetches[2];
  fetches[0] = device.start_copy(sources[0], slots[0]);
  for (int i = 0; i < kNumRounds; ++i) {
    backend_->run(ops::Await{.transfer = fetches[i % 2]});
    if (i + 1 < kNumRounds) {
      const auto next = static_cast<std::size_t>(i + 1);
      fetches[next % 2] = device.start_copy(sources[next], slots[next % 2]);
    }
    backend_->run(ops::Add{.a = sum, .b = slots[i % 2], .out = sum});
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
    hosts.emplace_back(dtype(), Shape{kSize}, backend_->device().staging_allocator());
  }
  const Tensor slots[2] = {filled(0, kSize), filled(1, kSize)};
  const Tensor two = filled(2, kSize);
  Transfer copies[2];
  for (int i = 0; i < kNumRounds; ++i) {
    if (i >= 2) {
      backend_->run(ops::Await{.transfer = copies[i % 2]});
      backend_->run(ops::Add{.a = slots[i % 2], .b = two, .out = slots[i % 2]});
    }
    copies[i % 2] = backend_->device().start_copy(slots[i % 2], hosts[static_cast<std::size_t>(i)]);
  }
  for (Transfer& copy : copies) backend_->run(ops::Await{.transfer = copy});
  backend_->device().synchronize();
  for (int i = 0; i < kNumRounds; ++i) {
    const Tensor back(dtype(), {kSize}, backend_->allocator());
    backend_->run(ops::Upload{.host = hosts[static_cast<std::size_t>(i)], .target = back});
    EXPECT_EQ(to_host(*backend_, back), std::vector<float>(kSize, static_cast<float>(i))) << i;
  }
}

// Operations of two backends on one stream run in the order of the calls.
TEST_P(CudaMemoryTest, AnExternalStreamCanBeGiven) {
  constexpr std::int64_t kSize = 1 << 24;
  const std::unique_ptr<Backend> other = make_backend(
      Device::cuda(),
      {.activation_dtype = dtype(), .external_stream = backend_->device().native_stream()});
  EXPECT_EQ(other->device().native_stream(), backend_->device().native_stream());
  const Tensor x = filled(1, kSize);
  for (int i = 0; i < 4; ++i) {
    Backend& backend = i % 2 == 0 ? *backend_ : *other;
    backend.run(ops::Add{.a = x, .b = x, .out = x});
  }
  EXPECT_EQ(to_host(*other, x), std::vector<float>(kSize, 16.0F));
}

// All memory that a graph uses stays where it is while the epoch does.
TEST_P(CudaMemoryTest, TheEpochCountsAllocations) {
  DeviceRuntime& device = backend_->device();
  const std::uint64_t before = device.memory_epoch();
  {
    const Tensor x(dtype(), {1000}, backend_->allocator());
  }
  const std::uint64_t after = device.memory_epoch();
  EXPECT_GE(after, before + 2);
  EXPECT_EQ(device.memory_epoch(), after);
}

// Copies to the device are part of a captured graph if the graph waits for them.
TEST_P(CudaMemoryTest, PrefetchesCanBeCaptured) {
  const Tensor value = filled(3, 1000);
  Tensor source(dtype(), Shape{1000}, backend_->device().staging_allocator());
  backend_->run(ops::Download{.source = value, .host = source});
  const Tensor slot = filled(-1, 1000);
  const Tensor sum = filled(0, 1000);
  const std::unique_ptr<CapturedGraph> graph = backend_->device().capture([&] {
    Transfer fetch = backend_->device().start_copy(source, slot);
    backend_->run(ops::Await{.transfer = fetch});
    backend_->run(ops::Add{.a = sum, .b = slot, .out = sum});
  });
  backend_->device().synchronize();
  std::memset(source.view().bytes(), 0, source.view().size_bytes());
  graph->replay();
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 3.0F));
}

TEST_P(CudaMemoryTest, ACapturedGraphUsesTheCurrentValues) {
  const Tensor x = filled(1, 1000);
  const Tensor sum = filled(0, 1000);
  const std::unique_ptr<CapturedGraph> graph = backend_->device().capture([&] {
    backend_->run(ops::Add{.a = sum, .b = x, .out = sum});
    backend_->run(ops::Add{.a = sum, .b = x, .out = sum});
  });
  ASSERT_NE(graph, nullptr);
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 2.0F));
  backend_->run(ops::Copy{.source = filled(5, 1000), .target = x});
  graph->replay();
  graph->replay();
  EXPECT_EQ(to_host(*backend_, sum), std::vector<float>(1000, 22.0F));
}

TEST_P(CudaMemoryTest, AnErrorDuringCaptureLeavesTheBackendUsable) {
  const Tensor x = filled(1, 10);
  const Tensor other = filled(1, 11);
  EXPECT_THROW(backend_->device().capture([&] {
    backend_->run(ops::Add{.a = x, .b = x, .out = x});
    backend_->run(ops::Add{.a = x, .b = other, .out = x});
  }),
               Error);
  backend_->run(ops::Add{.a = x, .b = x, .out = x});
  EXPECT_EQ(to_host(*backend_, x), std::vector<float>(10, 2.0F));
}

// Every stored dtype, in more than one buffer, at an odd address.
TEST_P(CudaMemoryTest, StoredWeightsAreConvertedAsOnTheHost) {
  const std::unique_ptr<WeightLoader> loader = backend_->device().make_weight_loader();
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
  const std::unique_ptr<Backend> cpu = make_backend(Device::cpu());
  constexpr std::int64_t kSize = 1'000'003;
  const Tensor wanted(DType::kF32, {kSize});
  cpu->run(ops::FillNormal{.target = wanted, .seed = 12345, .mean = 0.5F, .deviation = 0.02F});
  const Tensor found(DType::kF32, {kSize}, backend_->allocator());
  backend_->run(ops::FillNormal{.target = found, .seed = 12345, .mean = 0.5F, .deviation = 0.02F});
  EXPECT_TRUE(std::ranges::equal(to_host(*backend_, found), wanted.view().f32()));

  const Tensor wanted_matrix(dtype(), {kSize});
  cpu->run(
      ops::FillNormal{.target = wanted_matrix, .seed = 12345, .mean = 0.5F, .deviation = 0.02F});
  const Tensor found_matrix(dtype(), {kSize}, backend_->allocator());
  backend_->run(
      ops::FillNormal{.target = found_matrix, .seed = 12345, .mean = 0.5F, .deviation = 0.02F});
  const Tensor host(dtype(), {kSize});
  backend_->run(ops::Download{.source = found_matrix, .host = host});
  EXPECT_EQ(std::memcmp(host.view().bytes(), wanted_matrix.view().bytes(),
                        wanted_matrix.view().size_bytes()),
            0);
}

}  // namespace
}  // namespace mochi
