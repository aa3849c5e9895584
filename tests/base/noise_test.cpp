#include "base/noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/philox.h"
#include "base/torch_noise.h"
#include "support/fnv1a.h"

namespace mochi {
namespace {

using nlohmann::json;

const json& goldens() {
  static const json loaded = json::parse(std::ifstream(MOCHI_GOLDEN_DIR "/sampler/noise.json"));
  return loaded;
}

std::vector<float> draw(NoiseSource source, std::uint64_t seed, std::size_t size) {
  std::vector<float> values(size);
  fill_normal(source, seed, values);
  return values;
}

std::vector<float> draw(NoiseSource source, const json& expected) {
  return draw(source, expected["seed"], expected["n"]);
}

std::string describe(const json& expected) {
  return "seed " + expected["seed"].dump() + ", n " + expected["n"].dump();
}

// The largest difference at the indices of the golden case.
double largest_difference(std::span<const float> values, const json& expected) {
  double largest = 0.0;
  for (std::size_t i = 0; i < expected["indices"].size(); ++i) {
    const double got = values[expected["indices"][i].get<std::size_t>()];
    largest = std::max(largest, std::abs(got - expected["values"][i].get<double>()));
  }
  return largest;
}

// The number of golden values whose bits differ.
int count_different_bits(std::span<const float> values, const json& expected) {
  int count = 0;
  for (std::size_t i = 0; i < expected["indices"].size(); ++i) {
    const float got = values[expected["indices"][i].get<std::size_t>()];
    const float want = expected["values"][i].get<float>();
    count += std::bit_cast<std::uint32_t>(got) != std::bit_cast<std::uint32_t>(want);
  }
  return count;
}

TEST(Philox, PublishedKnownAnswers) {
  ASSERT_EQ(goldens()["philox_4x32_10"].size(), 3U);
  for (const json& known : goldens()["philox_4x32_10"]) {
    const std::uint64_t key =
        known["key"][0].get<std::uint64_t>() | known["key"][1].get<std::uint64_t>() << 32;
    EXPECT_EQ(philox_4x32_10(known["counter"].get<PhiloxWords>(), key),
              known["words"].get<PhiloxWords>());
  }
}

TEST(Noise, MochiIsExactlyTheQuantileOfItsCounter) {
  ASSERT_FALSE(goldens()["mochi"].empty());
  for (const json& expected : goldens()["mochi"]) {
    EXPECT_EQ(count_different_bits(draw(NoiseSource::kMochi, expected), expected), 0)
        << describe(expected);
  }
}

TEST(Noise, MochiIsStandardNormal) {
  const std::vector<float> values = draw(NoiseSource::kMochi, 7, 1 << 20);
  double sum = 0.0;
  double square = 0.0;
  double fourth = 0.0;
  double neighbours = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = values[i];
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
    neighbours += x * values[(i + 1) % values.size()];
  }
  const double size = static_cast<double>(values.size());
  // Five standard deviations of each estimate.
  EXPECT_NEAR(sum / size, 0.0, 5 * std::sqrt(1 / size));
  EXPECT_NEAR(square / size, 1.0, 5 * std::sqrt(2 / size));
  EXPECT_NEAR(fourth / size, 3.0, 5 * std::sqrt(96 / size));
  EXPECT_NEAR(neighbours / size, 0.0, 5 * std::sqrt(1 / size));
}

TEST(Noise, MochiOfALongerTensorBeginsWithTheShorterOne) {
  const std::vector<float> longer = draw(NoiseSource::kMochi, 3, 1001);
  for (const std::size_t size : {0U, 1U, 2U, 3U, 4U, 5U, 1000U}) {
    const std::vector<float> shorter = draw(NoiseSource::kMochi, 3, size);
    EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin())) << size;
  }
}

TEST(Noise, EverySeedBitMatters) {
  for (const NoiseSource source : {NoiseSource::kMochi, NoiseSource::kTorchCuda}) {
    const std::vector<float> reference = draw(source, 0, 64);
    for (int bit = 0; bit < 64; ++bit) {
      EXPECT_NE(draw(source, std::uint64_t{1} << bit, 64), reference) << bit;
    }
  }
}

TEST(Noise, TorchCpuIsBitEqual) {
  ASSERT_FALSE(goldens()["torch_cpu"].empty());
  for (const json& expected : goldens()["torch_cpu"]) {
    const std::vector<float> values = draw(NoiseSource::kTorchCpu, expected);
    EXPECT_EQ(count_different_bits(values, expected), 0) << describe(expected);
    const std::string want = expected["fnv1a"];
    EXPECT_EQ(fnv1a(values), std::strtoull(want.c_str(), nullptr, 16)) << describe(expected);
  }
}

TEST(Noise, TorchCudaIsWithinTheDevicesAccuracy) {
  ASSERT_FALSE(goldens()["torch_cuda"].empty());
  for (const json& expected : goldens()["torch_cuda"]) {
    std::vector<float> values(expected["n"].get<std::size_t>());
    fill_normal_torch_cuda(expected["seed"], values, expected["multiprocessors"]);
    EXPECT_LE(largest_difference(values, expected), 4e-6) << describe(expected);
    if (expected["multiprocessors"] == 132) {
      EXPECT_EQ(values, draw(NoiseSource::kTorchCuda, expected)) << describe(expected);
    }
  }
}

}  // namespace
}  // namespace mochi
