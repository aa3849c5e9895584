// The choice of the columns of query groups compared with a literal implementation, and their
// plans.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>

#include "backend/ops_fixture.h"

namespace mochi {
namespace {

struct Plan {
  std::vector<std::vector<std::int32_t>> lists;
  std::vector<std::int32_t> counts;
};

// An ops::SelectColumns without its outputs.
struct Choice {
  TensorView scores = {}, fixed = {};
  std::int64_t num_keys = 0, min_kept = 0, max_kept = 0;
  double mass = 1, random = 0;
  std::uint64_t seed = 0;
  TensorView step = {};
  std::int64_t multiple = 1;
};

class SelectionBase : public OpsFixture {
 protected:
  Plan select(const Choice& choice, std::int64_t heads, std::int64_t groups) {
    const std::int64_t words = (choice.num_keys + 31) / 32;
    const Tensor bits =
        ints(std::vector<std::int32_t>(static_cast<std::size_t>(heads * groups * words), -1),
             {heads, groups, words});
    const std::int64_t num_lists = heads * groups;
    const Tensor offsets = ints(
        std::vector<std::int32_t>(static_cast<std::size_t>(num_lists + 1), -1), {num_lists + 1});
    backend_->run(ops::SelectColumns{.scores = choice.scores,
                                     .fixed = choice.fixed,
                                     .num_keys = choice.num_keys,
                                     .min_kept = choice.min_kept,
                                     .max_kept = choice.max_kept,
                                     .mass = choice.mass,
                                     .random = choice.random,
                                     .seed = choice.seed,
                                     .step = choice.step,
                                     .multiple = choice.multiple,
                                     .plan = bits,
                                     .offsets = offsets});
    EXPECT_EQ(data(offsets)[0], 0);
    // The buffer is larger than the lists.
    const std::int64_t room = data(offsets)[num_lists] + 7;
    const Tensor columns =
        ints(std::vector<std::int32_t>(static_cast<std::size_t>(room), -1), {room});
    backend_->run(ops::ExpandColumns{.plan = bits, .lists = {offsets, columns, 1}});
    Plan plan;
    for (std::int64_t i = 0; i < num_lists; ++i) {
      const std::int32_t* const offset = data(offsets) + i;
      plan.counts.push_back(offset[1] - offset[0]);
      plan.lists.emplace_back(data(columns) + offset[0], data(columns) + offset[1]);
    }
    EXPECT_EQ(std::count(data(columns) + room - 7, data(columns) + room, -1), 7);
    return plan;
  }

  std::unique_ptr<Backend> reference_ = make_backend(Device::cpu());

  Tensor random_scores(const Shape& shape) {
    Tensor scores = random_f32(shape);  // not rounded, because rounded scores would tie
    for (float& score : scores.view().f32()) score = std::exp(3 * score);
    return scores;
  }
  Tensor random_bits(std::int64_t groups, std::int64_t num_keys, double part) {
    const std::int64_t words = (num_keys + 31) / 32;
    std::vector<std::int32_t> bits(static_cast<std::size_t>(groups * words));
    std::bernoulli_distribution is_set(part);
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t key = 0; key < num_keys; ++key) {
        if (is_set(generator_)) {
          bits[static_cast<std::size_t>(group * words + key / 32)] |=
              std::bit_cast<std::int32_t>(std::uint32_t{1} << (key % 32));
        }
      }
    }
    return ints(bits, {groups, words});
  }
  static bool has_bit(const Tensor& bits, std::int64_t group, std::int64_t key) {
    return (static_cast<std::uint32_t>(data(bits)[group * bits.view().dim(1) + key / 32]) >>
                (key % 32) &
            1U) != 0;
  }
  // Checks the choice for these scores against a literal implementation.
  void check_choice(const Tensor& scores) {
    const std::int64_t num_keys = scores.view().dim(2);
    const Tensor fixed = random_bits(3, num_keys, 0.1);
    const Plan plan = select({.scores = scores,
                              .fixed = fixed,
                              .num_keys = num_keys,
                              .min_kept = 64,
                              .max_kept = 64,
                              .multiple = 32},
                             2, 3);
    for (std::int64_t list = 0; list < 6; ++list) {
      // The literal implementation: sort, take 64, add the fixed ones, then the next best up to a
      // multiple.
      const float* score = scores.view().f32().data() + list * num_keys;
      std::vector<std::int32_t> ranking(num_keys);
      std::iota(ranking.begin(), ranking.end(), 0);
      std::ranges::stable_sort(ranking, [&](auto a, auto b) { return score[a] > score[b]; });
      std::vector<std::int32_t> wanted(ranking.begin(), ranking.begin() + 64);
      for (std::int32_t key = 0; key < num_keys; ++key) {
        if (has_bit(fixed, list % 3, key) && std::ranges::find(wanted, key) == wanted.end()) {
          wanted.push_back(key);
        }
      }
      for (std::size_t i = 64; wanted.size() % 32 != 0; ++i) {
        if (std::ranges::find(wanted, ranking[i]) == wanted.end()) wanted.push_back(ranking[i]);
      }
      std::ranges::sort(wanted);
      EXPECT_EQ(plan.lists[static_cast<std::size_t>(list)], wanted);
    }
  }
  // Checks the plan with num_kept columns kept for their scores.
  void expect_same_plan(Choice choice, std::int64_t num_kept, std::int64_t multiple) {
    choice.min_kept = choice.max_kept = std::min(num_kept, choice.num_keys);
    choice.multiple = multiple;
    const Plan plan = select(choice, 2, 3);
    std::swap(backend_, reference_);
    const Plan wanted = select(choice, 2, 3);
    std::swap(backend_, reference_);
    EXPECT_EQ(plan.counts, wanted.counts);
    EXPECT_EQ(plan.lists, wanted.lists);
  }
};

using Selection = OverBackends<SelectionBase>;
INSTANTIATE_TEST_SUITE_P(On, Selection, all_backends(), name_of_case);

TEST_P(Selection, PlansAreSortedUniqueInRangeAndPadded) {
  for (const std::int64_t num_keys : {1, 31, 32, 33, 127, 128, 129, 300, 1000}) {
    for (const std::int64_t multiple : {1, 16, 128}) {
      for (const double random : {0.0, 0.05}) {
        const Tensor scores = random_scores({2, 3, num_keys});
        const Tensor fixed = random_bits(3, num_keys, 0.1);
        const std::int64_t kept = num_keys / 5;
        const Plan plan = select({.scores = scores,
                                  .fixed = fixed,
                                  .num_keys = num_keys,
                                  .min_kept = kept,
                                  .max_kept = kept,
                                  .random = random,
                                  .multiple = multiple},
                                 2, 3);
        for (std::size_t i = 0; i < plan.lists.size(); ++i) {
          const auto& list = plan.lists[i];
          ASSERT_EQ(std::ssize(list), plan.counts[i]);
          EXPECT_GE(list.front(), 0);
          EXPECT_LT(list.back(), num_keys);
          EXPECT_EQ(std::ranges::adjacent_find(list, std::greater_equal<>{}), list.end());
          EXPECT_TRUE(list.size() % static_cast<std::size_t>(multiple) == 0 ||
                      std::ssize(list) == num_keys);
        }
      }
    }
  }
}

TEST_P(Selection, KeepsTheFixedTheBestAndNoMoreThanThePaddingNeeds) {
  check_choice(random_scores({2, 3, 500}));
}

// Among equal scores the lower columns come first, also if a list has more of them than fit in a
// processor's fast memory.
TEST_P(Selection, TiesGoToLowerColumns) {
  for (const std::int64_t num_keys : {500, 3000, 60'000}) {
    const Tensor scores = random_scores({2, 3, num_keys});
    for (float& score : scores.view().f32()) score = std::floor(std::min(score, 4.0F));
    check_choice(scores);
  }
}

// Forms that a list's scores may have.
struct ScoreForm {
  const char* name;
  float (*of)(float normal, std::int64_t column);
};
constexpr ScoreForm kScoreForms[] = {
    {"narrow", [](float x, std::int64_t) { return 0.004F * std::exp(0.1F * x); }},
    {"wide", [](float x, std::int64_t) { return 0.004F * std::exp(4 * x); }},
    {"few values", [](float x, std::int64_t) { return std::floor(4 * std::exp(x)); }},
    {"half zeros", [](float x, std::int64_t) { return std::max(x, 0.0F); }},
    {"mostly negative zeros", [](float x, std::int64_t) { return x > 1.2F ? x : -0.0F; }},
    {"all equal", [](float, std::int64_t) { return 0.25F; }},
    {"all zero", [](float, std::int64_t) { return 0.0F; }},
    {"infinities", [](float x, std::int64_t) { return x > 1 ? INFINITY : std::abs(x); }},
    {"tiny", [](float x, std::int64_t) { return 1e-41F * std::abs(x); }},
    {"rising", [](float, std::int64_t column) { return static_cast<float>(column); }},
    {"peaks that a sample misses",
     [](float x, std::int64_t column) { return column % 997 == 5 ? 1e30F * std::abs(x) : 1.0F; }},
};

// The plan equals the CPU's bit for bit, for all forms of scores.
TEST_P(Selection, PlansAreTheSameEverywhere) {
  for (const std::int64_t num_keys : {33, 1000, 6001}) {
    const Tensor fixed = random_bits(3, num_keys, 0.1);
    for (const ScoreForm& form : kScoreForms) {
      SCOPED_TRACE(testing::Message() << form.name << ", " << num_keys << " keys");
      const Tensor scores = random_f32({2, 3, num_keys});
      for (std::int64_t i = 0; i < 6 * num_keys; ++i) {
        float& score = scores.view().f32()[static_cast<std::size_t>(i)];
        score = form.of(score, i % num_keys);
      }
      Choice choice{.scores = scores, .fixed = fixed, .num_keys = num_keys, .seed = 3};
      expect_same_plan(choice, 1, 1);
      expect_same_plan(choice, num_keys / 7, 1);
      choice.random = 0.01;
      expect_same_plan(choice, num_keys / 7, 128);
      expect_same_plan(choice, num_keys - 1, 128);
      expect_same_plan(choice, 0, 128);
      choice.random = 0.3;
      expect_same_plan(choice, num_keys / 3, 1024);  // more padding than the best columns bring
    }
  }
}

// The longest list that fits in an H100's shared memory, the next, and that of a long video. The
// last columns of the latter two stay in global memory.
TEST_P(Selection, PlansOfLongListsAreTheSameEverywhere) {
  for (const std::int64_t num_keys : {50'176, 50'177, 65'446}) {
    SCOPED_TRACE(testing::Message() << num_keys << " keys");
    const Tensor fixed = random_bits(3, num_keys, 0.01);
    const Tensor scores = random_scores({2, 3, num_keys});
    const Choice choice{
        .scores = scores, .fixed = fixed, .num_keys = num_keys, .random = 0.01, .seed = 3};
    expect_same_plan(choice, num_keys / 7, 128);
    // About 400 equal scores, spread over the whole list, include some of the best.
    for (float& score : scores.view().f32()) {
      score = std::floor(static_cast<float>(generator_() % num_keys) / 400.0F);
    }
    for (const std::int64_t num_kept : {10'000, 10'200}) expect_same_plan(choice, num_kept, 16);
  }
}

TEST_P(Selection, MassKeepsTheFewestColumnsThatHoldIt) {
  const std::int64_t num_keys = 300;
  const Tensor scores = random_scores({1, 4, num_keys});
  const Tensor fixed = random_bits(4, num_keys, 0.0);
  const auto counts_for = [&](double mass, std::int64_t min_kept, std::int64_t max_kept) {
    return select({.scores = scores,
                   .fixed = fixed,
                   .num_keys = num_keys,
                   .min_kept = min_kept,
                   .max_kept = max_kept,
                   .mass = mass},
                  1, 4);
  };
  const Plan plan = counts_for(0.8, 1, num_keys);
  for (std::int64_t group = 0; group < 4; ++group) {
    const float* score = scores.view().f32().data() + group * num_keys;
    std::vector<float> sorted(score, score + num_keys);
    std::ranges::sort(sorted, std::greater<>{});
    const double total = std::accumulate(sorted.begin(), sorted.end(), 0.0);
    const auto count = static_cast<std::size_t>(plan.counts[static_cast<std::size_t>(group)]);
    EXPECT_GE(std::accumulate(sorted.begin(), sorted.begin() + count, 0.0), 0.8 * total);
    EXPECT_LT(std::accumulate(sorted.begin(), sorted.begin() + count - 1, 0.0), 0.8 * total);
  }
  for (const std::int32_t count : counts_for(0.999, 5, 20).counts) EXPECT_EQ(count, 20);
  for (const std::int32_t count : counts_for(1e-9, 5, 20).counts) EXPECT_EQ(count, 5);
}

TEST_P(Selection, RandomColumnsFollowSeedStepAndProbability) {
  const std::int64_t num_keys = 20'000;
  const Tensor fixed = random_bits(2, num_keys, 0.0);
  const auto draw = [&](std::uint64_t seed, const TensorView& step = {}) {
    return select({.fixed = fixed, .num_keys = num_keys, .random = 0.1, .seed = seed, .step = step},
                  2, 2);
  };
  const Plan plan = draw(5);
  for (const std::int32_t count : plan.counts) EXPECT_NEAR(count, 2000, 200);
  EXPECT_NE(plan.lists[0], plan.lists[1]);
  EXPECT_NE(plan.lists[0], plan.lists[2]);
  EXPECT_EQ(plan.lists, draw(5).lists);
  EXPECT_NE(plan.lists, draw(6).lists);
  EXPECT_EQ(plan.lists, draw(5, ints({0}, {1})).lists);
  EXPECT_NE(plan.lists, draw(5, ints({3}, {1})).lists);
}

// Lists of very unequal lengths, and more of them than a block of threads adds up at a time.
TEST_P(Selection, OffsetsOfManyLists) {
  const std::int64_t groups = 2500;
  const Tensor fixed = random_bits(groups, 40, 0.3);
  const Plan plan = select({.fixed = fixed, .num_keys = 40}, 1, groups);
  for (std::int64_t group = 0; group < groups; ++group) {
    std::int32_t wanted = 0;
    for (std::int64_t key = 0; key < 40; ++key) wanted += has_bit(fixed, group, key) ? 1 : 0;
    ASSERT_EQ(plan.counts[static_cast<std::size_t>(group)], std::max(wanted, 1)) << group;
  }
}

// Infinite and undefined scores (from a broken model) must not break anything else.
TEST_P(Selection, AnyScoreIsSafe) {
  const Tensor scores = random_scores({1, 1, 200});
  for (std::size_t i = 0; i < 200; i += 3) {
    scores.view().f32()[i] = i % 2 == 0 ? std::nanf("") : INFINITY;
  }
  const Tensor fixed = random_bits(1, 200, 0.0);
  const Plan plan = select({.scores = scores,
                            .fixed = fixed,
                            .num_keys = 200,
                            .min_kept = 10,
                            .max_kept = 60,
                            .mass = 0.5,
                            .multiple = 16},
                           1, 1);
  EXPECT_GE(plan.counts[0], 10);
  EXPECT_LE(plan.counts[0], 64);
}

}  // namespace
}  // namespace mochi
