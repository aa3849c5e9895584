// A profiled run does the work that is timed without a profile.
#include "bench/profiling_backend.h"

#include <gtest/gtest.h>

#include "support/mirror_backend.h"

namespace mochi::bench {
namespace {

// A CPU that claims to be another device in every way that a backend can say.
class OddBackend final : public MirrorBackend {
 public:
  using MirrorBackend::MirrorBackend;

  Device device() const override { return Device::kCuda; }
  std::string device_name() const override { return "odd"; }
  DType activation_dtype() const override { return DType::kBF16; }
  DType preferred_matrix_dtype() const override { return DType::kBF16; }
  ChunkSizes preferred_chunks() const override {
    return {.latent_frames = 7, .slice_elements = 1234};
  }
  DeviceMemory memory() const override { return {.used_bytes = 1, .peak_bytes = peak_bytes}; }
  void restart_peak() override { peak_bytes = 1; }
  Allocator& allocator() override { return allocator_; }
  Allocator& staging_allocator() override { return staging_allocator_; }
  std::unique_ptr<WeightLoader> make_weight_loader() override { return std::make_unique<Loader>(); }

  std::uint64_t peak_bytes = 9;

 private:
  class OwnAllocator final : public Allocator {
   public:
    void* allocate(std::size_t num_bytes) override { return host_allocator().allocate(num_bytes); }
    void deallocate(void* memory) noexcept override { host_allocator().deallocate(memory); }
    Device device() const override { return Device::kCpu; }
  };
  class Loader final : public WeightLoader {
    void load(DType /*stored*/, std::span<const std::byte> /*bytes*/,
              const TensorView& /*target*/) override {}
    void finish() override {}
  };
  OwnAllocator allocator_, staging_allocator_;
};

TEST(ProfilingBackend, ReportsTheDeviceOfTheInnerBackend) {
  const std::unique_ptr<Backend> cpu = make_backend(Device::kCpu);
  OddBackend odd(*cpu);
  ProfilingBackend profiling(odd, /*is_timing=*/false);
  EXPECT_EQ(profiling.device(), Device::kCuda);
  EXPECT_EQ(profiling.device_name(), "odd");
  EXPECT_EQ(profiling.activation_dtype(), DType::kBF16);
  EXPECT_EQ(profiling.preferred_matrix_dtype(), DType::kBF16);
  // A video cut in other slices would be another program than the one that is timed.
  EXPECT_EQ(profiling.preferred_chunks().latent_frames, 7);
  EXPECT_EQ(profiling.preferred_chunks().slice_elements, 1234);
  EXPECT_EQ(&profiling.allocator(), &odd.allocator());
  EXPECT_EQ(&profiling.staging_allocator(), &odd.staging_allocator());
  EXPECT_NE(profiling.make_weight_loader(), nullptr);
  EXPECT_EQ(profiling.memory().peak_bytes, 9U);
  profiling.restart_peak();
  EXPECT_EQ(odd.peak_bytes, 1U);
}

}  // namespace
}  // namespace mochi::bench
