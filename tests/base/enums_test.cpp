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

TEST(Enums, PhasesHaveNames) {
  std::set<std::string_view> names;
  for (const Phase phase : kPhases) names.insert(name_of(phase));
  EXPECT_EQ(names.size(), kPhases.size());
  EXPECT_FALSE(names.contains("?"));
}

}  // namespace
}  // namespace mochi
