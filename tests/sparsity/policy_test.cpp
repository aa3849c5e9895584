// The policy over a series of steps whose queries, keys and values drift.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "sparsity/policy_fixture.h"

namespace mochi {
namespace {

constexpr DeltaKind kDeltas[] = {DeltaKind::kSubtract, DeltaKind::kWeighted, DeltaKind::kLseMerge,
                                 DeltaKind::kHalfMerge};

using Policy = OverBackends<PolicyBase>;
INSTANTIATE_TEST_SUITE_P(On, Policy, all_backends(), name_of_case);

TEST_P(Policy, FullStepsAreDense) {
  ColumnSparsePolicy policy(make_config(), kGrid, 0);
  for (int step = 0; step <= 5; ++step) {
    const Problem problem = problem_at(step);
    const double difference = error(attend(policy, problem, step), dense(problem));
    if (step == 0 || step == 1 || step == 5) {
      EXPECT_LE(difference, limit(1e-6, 2.0)) << step;
    } else {
      EXPECT_GT(difference, 1e-3) << step;
    }
  }
}

TEST_P(Policy, RightAfterAFullStepTheDeltaGivesTheDenseOutput) {
  for (const int group_size : {192, 128, 64}) {
    for (const DeltaKind delta : kDeltas) {
      for (const std::int64_t num_text : {6, 0}) {
        SparsityConfig config = make_config(delta);
        config.attn.group_size = group_size;
        ColumnSparsePolicy policy(config, kGrid, 0);
        attend(policy, problem_at(0, num_text), 0);
        const Problem problem = problem_at(1, num_text);
        attend(policy, problem, 1);
        EXPECT_LE(error(attend(policy, problem, 2), dense(problem)), limit(3e-6, 2.0))
            << group_size;
      }
    }
  }
}

TEST_P(Policy, TheDeltaCompensatesMostOfTheError) {
  const Problem later = problem_at(2);
  const auto error_with = [&](DeltaKind delta) {
    ColumnSparsePolicy policy(make_config(delta), kGrid, 0);
    for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
    return error(attend(policy, later, 2), dense(later));
  };
  const double without = error_with(DeltaKind::kNone);
  for (const DeltaKind delta : kDeltas) EXPECT_LT(error_with(delta), 0.5 * without);
}

// 8 bits are a fortieth off, of what the delta has: next to what sparsity costs it is little.
TEST_P(Policy, ACacheOfEightBitsIsAlmostAsGood) {
  for (const DeltaKind delta : kDeltas) {
    const auto errors_with = [&](CacheDType cache_dtype) {
      SparsityConfig config = make_config(delta);
      config.attn.cache_dtype = cache_dtype;
      ColumnSparsePolicy policy(config, kGrid, 0);
      for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
      return std::pair{error(attend(policy, problem_at(1), 2), dense(problem_at(1))),
                       error(attend(policy, problem_at(2), 3), dense(problem_at(2)))};
    };
    const auto [at_once, later] = errors_with(CacheDType::kFp8);
    EXPECT_GT(at_once, 0.005);
    EXPECT_LT(at_once, 0.03);
    EXPECT_LT(later, 1.1 * errors_with(CacheDType::kActivation).second);
  }
}

TEST_P(Policy, ACacheOfAnotherDTypeIsNotRestored) {
  const auto make = [&](CacheDType cache_dtype) {
    SparsityConfig config = make_config();
    config.attn.cache_dtype = cache_dtype;
    return ColumnSparsePolicy(config, kGrid, 0);
  };
  const auto message_of = [&](CacheDType saved, CacheDType wanted) -> std::string {
    ColumnSparsePolicy policy = make(saved);
    for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
    try {
      ColumnSparsePolicy other = make(wanted);
      allocate(other, problem_at(0));
      other.restore(*backend_, policy.save(*backend_));
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message_of(CacheDType::kFp8, CacheDType::kActivation),
            "cached tensor 'cond.3.cache': wanted F32, found F8_E4M3: it was saved with another "
            "attn.cache_dtype");
  EXPECT_EQ(message_of(CacheDType::kActivation, CacheDType::kFp8),
            "cached tensor 'cond.3.cache': wanted F8_E4M3, found F32: it was saved with another "
            "attn.cache_dtype");
  EXPECT_EQ(message_of(CacheDType::kFp8, CacheDType::kFp8), "accepted");
}

TEST_P(Policy, AllColumnsAreDenseAtEveryStep) {
  for (const DeltaKind delta : kDeltaKinds) {
    SparsityConfig config = make_config(delta);
    config.attn.top_keys = 1;
    ColumnSparsePolicy policy(config, kGrid, 0);
    for (int step = 0; step < 4; ++step) {
      const Problem problem = problem_at(step);
      EXPECT_LE(error(attend(policy, problem, step), dense(problem)), limit(3e-6, 2.0)) << step;
    }
  }
}

TEST_P(Policy, StaticColumnsAloneAreEnough) {
  SparsityConfig config = make_config();
  config.attn.top_keys = 0;
  config.attn.random_keys = 0;
  ColumnSparsePolicy policy(config, kGrid, 0);
  for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
  const Problem problem = problem_at(1);
  EXPECT_LE(error(attend(policy, problem, 2), dense(problem)), limit(3e-6, 2.0));
}

TEST_P(Policy, EarlyLayersAreDense) {
  ColumnSparsePolicy policy(make_config(), kGrid, 0);
  for (int step = 0; step < 4; ++step) {
    const Problem problem = problem_at(step);
    EXPECT_LE(error(attend(policy, problem, step, {Branch::kCond, 1}), dense(problem)),
              limit(1e-6, 2.0));
  }
}

std::vector<float> values(const Tensor& tensor) {
  return {tensor.view().f32().begin(), tensor.view().f32().end()};
}

TEST_P(Policy, TheSeedDecidesTheRandomColumns) {
  const auto run = [&](std::uint64_t seed) {
    SparsityConfig config = make_config();
    config.attn.random_keys = 0.05;
    ColumnSparsePolicy policy(config, kGrid, seed);
    for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
    return values(attend(policy, problem_at(2), 2));
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

// Each branch has its own state: the inputs of one do not change the other.
TEST_P(Policy, BranchesAreIndependent) {
  ColumnSparsePolicy both(make_config(), kGrid, 0);
  ColumnSparsePolicy alone(make_config(), kGrid, 0);
  for (int step = 0; step < 3; ++step) {
    const Tensor with_null = attend(both, problem_at(step), step);
    attend(both, problem_at(50 + step, 0), step, {Branch::kNull, 3});
    EXPECT_EQ(values(with_null), values(attend(alone, problem_at(step), step)));
  }
}

// So have the layers of a branch, which take turns with the place of a new log-sum-exp.
TEST_P(Policy, LayersAreIndependent) {
  ColumnSparsePolicy both(make_config(DeltaKind::kHalfMerge), kGrid, 0);
  ColumnSparsePolicy alone(make_config(DeltaKind::kHalfMerge), kGrid, 0);
  for (int step = 0; step < 7; ++step) {
    const Tensor with_other = attend(both, problem_at(step), step);
    attend(both, problem_at(50 + step), step, {Branch::kCond, 4});
    EXPECT_EQ(values(with_other), values(attend(alone, problem_at(step), step))) << step;
  }
}

// A branch that guidance left out at the full steps begins where it first runs.
TEST_P(Policy, ABranchMayBeginLate) {
  ColumnSparsePolicy policy(make_config(), kGrid, 0);
  for (int step = 2; step < 4; ++step) {  // lse, then columns
    const Problem problem = problem_at(step);
    EXPECT_LE(error(attend(policy, problem, step), dense(problem)), limit(1e-6, 2.0));
  }
  EXPECT_GT(error(attend(policy, problem_at(4), 4), dense(problem_at(4))), 1e-4);
}

TEST_P(Policy, AKeptMaskSavesScoringAndStaysTheSame) {
  SparsityConfig config = make_config();
  config.attn.recompute_mask = false;
  ColumnSparsePolicy policy(config, kGrid, 0);
  for (int step = 0; step <= 5; ++step) attend(policy, problem_at(step), step);
  const Problem problem = problem_at(5);
  EXPECT_LE(error(attend(policy, problem, 6), dense(problem)), limit(3e-6, 2.0));
}

TEST_P(Policy, MoreColumnsReduceTheError) {
  double former = 1e9;
  for (const double top_keys : {0.05, 0.2, 0.5, 0.9}) {
    SparsityConfig config = make_config(DeltaKind::kNone);
    config.attn.top_keys = top_keys;
    ColumnSparsePolicy policy(config, kGrid, 0);
    for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
    const double now = error(attend(policy, problem_at(2), 2), dense(problem_at(2)));
    EXPECT_LT(now, former) << top_keys;
    former = now;
  }
}

// All memory is there before the first step, so that captured graphs stay valid.
TEST_P(Policy, StepsAllocateNothingButScratch) {
  for (const DeltaKind delta : kDeltas) {
    ColumnSparsePolicy policy(make_config(delta), kGrid, 0);
    allocate(policy, problem_at(0));
    const auto addresses = [&] {
      std::vector<const std::byte*> found;
      if (const ColumnPlan* plan = policy.find_plan(kSite)) found.push_back(plan->bits().bytes());
      return found;
    };
    for (int step = 0; step < 2; ++step) attend(policy, problem_at(step), step);
    const std::vector<const std::byte*> before = addresses();
    ASSERT_FALSE(before.empty());
    for (int step = 2; step <= 6; ++step) attend(policy, problem_at(step), step);
    EXPECT_EQ(addresses(), before);
  }
}

TEST_P(Policy, ALayerWithoutMemoryIsAnError) {
  ColumnSparsePolicy policy(make_config(), kGrid, 0);
  allocate(policy, problem_at(0));
  try {
    attend(policy, problem_at(0), 0, {Branch::kCond, 5});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "sparse attention: layer 5 of branch 0 was not expected");
  }
}

}  // namespace
}  // namespace mochi
