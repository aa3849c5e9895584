// Two engines in one process, each with its own device and in its own thread, make what each makes
// alone.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "mochi/mochi.h"
#include "pipeline/tiny_model.h"

namespace mochi {
namespace {

struct Kind {
  const char* name;
  DeviceKind device;
};

class TwoEngines : public testing::TestWithParam<Kind> {
 protected:
  static Engine make(int device_index) {
    return Engine({.model_dir = micro_model_folder(),
                   .device = GetParam().device,
                   .device_index = device_index});
  }

  // The latents and the frames of a short video.
  static std::vector<float> generate(Engine& engine, std::uint64_t seed) {
    GenerateRequest request = engine.model().default_request();
    request.prompt = "a small red ball moves to the right on a white background";
    request.num_frames = 7;
    request.num_steps = 12;
    request.seed = seed;
    request.sparsity = load_sparsity_config(default_sparsity_file()).config;
    const Latents latents = engine.sample(request);
    std::vector<float> values = latents.values;
    engine.decode(latents, [&](std::span<const std::uint8_t> rgb, std::int64_t) {
      values.insert(values.end(), rgb.begin(), rgb.end());
    });
    return values;
  }
};

TEST_P(TwoEngines, MakeWhatEachMakesAlone) {
  if (GetParam().device == DeviceKind::kCuda) {
    const std::string problem = find_cuda_problem();
    if (!problem.empty()) GTEST_SKIP() << "no CUDA here: " << problem;
    if (count_gpus() < 2) GTEST_SKIP() << "this machine has one GPU";
  }
  std::array<std::vector<float>, 2> alone;
  std::array<Engine, 2> engines{make(0), make(1)};
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(engines[i].info().device_index, static_cast<int>(i));
    alone[i] = generate(engines[i], i);
  }
  std::array<std::vector<float>, 2> together;
  {
    std::array<std::jthread, 2> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      threads[i] = std::jthread([&, i] { together[i] = generate(engines[i], i); });
    }
  }
  EXPECT_NE(alone[0], alone[1]);
  EXPECT_EQ(together[0], alone[0]);
  EXPECT_EQ(together[1], alone[1]);
  // A device has no part in the result.
  EXPECT_EQ(generate(engines[1], 0), alone[0]);
}

INSTANTIATE_TEST_SUITE_P(On, TwoEngines,
                         testing::Values(Kind{"Cpu", DeviceKind::kCpu},
                                         Kind{"Cuda", DeviceKind::kCuda}),
                         [](const auto& which) { return which.param.name; });

TEST(DeviceIndex, OfWhatDoesNotExistIsRefused) {
  const auto field_of = [](DeviceKind kind, int index) {
    try {
      const Engine engine(
          {.model_dir = micro_model_folder(), .device = kind, .device_index = index});
    } catch (const InvalidRequest& error) {
      return error.field();
    }
    return std::string("none");
  };
  EXPECT_EQ(field_of(DeviceKind::kAuto, 1), "device_index");
  EXPECT_EQ(field_of(DeviceKind::kCpu, -1), "device_index");
  EXPECT_EQ(field_of(DeviceKind::kCpu, 256), "device_index");
  EXPECT_EQ(field_of(DeviceKind::kCpu, 3), "none");
  EXPECT_EQ(field_of(DeviceKind::kCuda, 200), "device");
}

}  // namespace
}  // namespace mochi
