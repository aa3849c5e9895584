#include "mochi/enums.h"

#include <gtest/gtest.h>

#include <set>

namespace mochi {
namespace {

// Every value has a distinct name, which reads as that value.
template <typename Values, typename Parse>
void expect_round_trips(const Values& values, const Parse& parse) {
  std::set<std::string_view> names;
  for (const auto value : values) {
    EXPECT_EQ(parse(name_of(value)), value) << name_of(value);
    names.insert(name_of(value));
  }
  EXPECT_EQ(names.size(), values.size());
  EXPECT_FALSE(names.contains("?"));
  for (const std::string_view unknown : {"", "torch", "AUTO", "fp16", "?"}) {
    EXPECT_FALSE(parse(unknown)) << unknown;
  }
}

TEST(Enums, NamesReadAsTheirValues) {
  expect_round_trips(kDeviceKinds, parse_device_kind);
  expect_round_trips(kPrecisions, parse_precision);
  expect_round_trips(kNoiseSources, parse_noise_source);
  expect_round_trips(kRandomWeights, parse_random_weights);
}

TEST(Enums, DevicesMayHaveANumber) {
  const auto read = [](std::string_view name) {
    const std::optional<DeviceName> device = parse_device(name);
    return device ? std::string(name_of(device->kind)) + "/" + std::to_string(device->index)
                  : std::string("none");
  };
  EXPECT_EQ(read("auto"), "auto/0");
  EXPECT_EQ(read("cuda"), "cuda/0");
  EXPECT_EQ(read("cuda:1"), "cuda/1");
  EXPECT_EQ(read("cpu:255"), "cpu/255");
  for (const char* name : {"cuda:256", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "auto:0", "gpu:0",
                           "cuda:99999999999", ":1", ""}) {
    EXPECT_EQ(read(name), "none") << name;
  }
}

TEST(Enums, PhasesHaveNames) {
  std::set<std::string_view> names;
  for (const Phase phase : kPhases) names.insert(name_of(phase));
  EXPECT_EQ(names.size(), kPhases.size());
  EXPECT_FALSE(names.contains("?"));
}

}  // namespace
}  // namespace mochi
