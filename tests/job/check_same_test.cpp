// Comparing the settings of a resumed run with those of the run that it continues.
#include "job/check_same.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "mochi/sparsity.h"

namespace mochi::job {
namespace {

using OrderedJson = nlohmann::ordered_json;

TEST(CheckSame, SparsityKeysWithoutEffectMakeNoDifference) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 5};
  const OrderedJson wanted{{"sparsity", OrderedJson::parse(to_json(config))}};
  Json found(wanted);
  found["sparsity"]["steps"] = 64;
  found["sparsity"]["attn"]["should_compress_indices"] = true;
  found["sparsity"]["attn"]["full_step_every"] = 10;
  found["sparsity"]["mlp"]["top_keys"] = 0.3;
  EXPECT_NO_THROW(check_same("the video", wanted, found));
  found["sparsity"]["attn"]["top_keys"] = 0.5;
  EXPECT_THROW(check_same("the video", wanted, found), Error);
}

TEST(CheckSame, StepsOfSchedulesAreComparedIfTheyAreWanted) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 5};
  config.steps = 24;
  const OrderedJson wanted{{"sparsity", OrderedJson::parse(to_json(config))}};
  Json found(wanted);
  EXPECT_NO_THROW(check_same("the search", wanted, found));
  found["sparsity"]["steps"] = 64;
  EXPECT_THROW(check_same("the search", wanted, found), Error);
}

}  // namespace
}  // namespace mochi::job
