#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "base/noise.h"
#include "study/search.h"
#include "study/tune_start.h"

namespace mochi::study {
namespace {

constexpr Workload kWorkload{64, 8};

// A quality that rises with each axis, as strongly as the numbers say.
struct Quality {
  double base, per_keys, per_full_steps, per_dense_layer, per_scores;
  std::map<DeltaKind, double> of_delta = {};

  double find(const SparsityConfig& config) const {
    const Place place = make_candidate(config, kWorkload).place;
    const auto delta = of_delta.find(config.attn.delta);
    return base + per_keys * std::log2(place.top_keys / 0.05) +
           per_full_steps * std::log2(place.num_full_steps / 2.0) +
           per_dense_layer * place.num_dense_layers + per_scores / place.score_queries +
           (delta == of_delta.end() ? 0 : delta->second);
  }
};

Quality random_quality(std::uint64_t seed) {
  std::vector<float> noise(5);
  fill_normal(NoiseSource::kMochi, seed, noise);
  const auto positive = [&](std::size_t i) { return std::abs(noise[i]); };
  return {25.0 + noise[0], 3 * positive(1), 3 * positive(2), positive(3), 0.3 * positive(4)};
}

Evaluation evaluate(const Quality& quality, const SparsityConfig& config) {
  return {make_candidate(config, kWorkload).cost, quality.find(config)};
}

std::vector<Trial> search_with(const Quality& quality, double min_psnr, int max_trials = 100) {
  return search(
      make_start(kWorkload), kWorkload, {min_psnr, 1}, max_trials,
      [&](const SparsityConfig& config, std::size_t) { return evaluate(quality, config); },
      [](const Trial&) {});
}

std::vector<std::string> configs_of(const std::vector<Trial>& trials) {
  std::vector<std::string> configs;
  configs.reserve(trials.size());
  for (const Trial& trial : trials) configs.push_back(to_json(trial.config));
  return configs;
}

// The cost of the cheapest good configuration: all are looked at.
double cheapest(const Quality& quality, double min_psnr) {
  double cost = std::numeric_limits<double>::infinity();
  const SparsityConfig start = make_start(kWorkload);
  for (const Candidate& candidate : list_candidates(start, DeltaKind::kLseMerge, kWorkload)) {
    if (quality.find(candidate.config) >= min_psnr) cost = std::min(cost, candidate.cost);
  }
  if (quality.find(start) >= min_psnr) cost = std::min(cost, make_candidate(start, kWorkload).cost);
  return cost;
}

TEST(TuneSearch, FindsTheCheapestGoodOne) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Quality quality = random_quality(seed);
    for (const double min_psnr : {20.0, 27.0, 30.0, 33.0, 36.0}) {
      const std::vector<Trial> trials = search_with(quality, min_psnr);
      EXPECT_LE(trials.size(), 24U);
      const auto fastest = find_fastest(trials, {min_psnr, 1});
      const double wanted = cheapest(quality, min_psnr);
      ASSERT_EQ(fastest.has_value(), std::isfinite(wanted)) << seed << " " << min_psnr;
      if (fastest) {
        EXPECT_EQ(trials[*fastest].evaluations[0].seconds, wanted);
      }
    }
  }
}

TEST(TuneSearch, NoConfigurationIsTriedTwice) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const std::vector<std::string> configs = configs_of(search_with(random_quality(seed), 30));
    EXPECT_EQ(std::set(configs.begin(), configs.end()).size(), configs.size());
  }
}

TEST(TuneSearch, KeepsToItsBudgetAndIsDeterministic) {
  const Quality quality = random_quality(3);
  const std::vector<std::string> all = configs_of(search_with(quality, 30));
  for (int max_trials = 1; max_trials <= std::ssize(all); ++max_trials) {
    const auto some = configs_of(search_with(quality, 30, max_trials));
    EXPECT_EQ(some, std::vector(all.begin(), all.begin() + max_trials));
  }
}

TEST(TuneSearch, ContinuesWithTheBestDelta) {
  Quality quality = random_quality(1);
  quality.of_delta = {{DeltaKind::kWeighted, 2}, {DeltaKind::kSubtract, -10}};
  const std::vector<Trial> trials = search_with(quality, 30);
  const std::size_t num_starts = list_starts(make_start(kWorkload)).size();
  ASSERT_GT(trials.size(), num_starts);
  for (std::size_t i = num_starts; i < trials.size(); ++i) {
    EXPECT_EQ(trials[i].config.attn.delta, DeltaKind::kWeighted);
  }
}

TEST(TuneSearch, TimesDoNotMatter) {
  const Quality quality = random_quality(5);
  double seconds = 100;
  const std::vector<Trial> trials = search(
      make_start(kWorkload), kWorkload, {30, 1}, 100,
      [&](const SparsityConfig& config, std::size_t) {
        return Evaluation{seconds = std::fmod(seconds * 7.3, 50), quality.find(config)};
      },
      [](const Trial&) {});
  EXPECT_EQ(configs_of(trials), configs_of(search_with(quality, 30)));
}

// Known evaluations stand for a search that was interrupted. For any number of them, the rest is
// the same and none of them is evaluated again.
TEST(TuneSearch, KnownEvaluationsDoNotChangeTheTrials) {
  const Quality quality = random_quality(8);
  constexpr std::size_t kNumPrompts = 3;
  using Key = std::pair<std::string, std::size_t>;
  const auto run = [&](std::map<Key, Evaluation>& known, std::vector<Key>& asked) {
    return search(
        make_start(kWorkload), kWorkload, {30, kNumPrompts}, 100,
        [&](const SparsityConfig& config, std::size_t prompt_idx) {
          const Key key{to_json(config), prompt_idx};
          if (known.contains(key)) return known.at(key);
          asked.push_back(key);
          Evaluation found = evaluate(quality, config);
          found.psnr += static_cast<double>(prompt_idx);
          return known[key] = found;
        },
        [](const Trial&) {});
  };
  std::map<Key, Evaluation> all;
  std::vector<Key> order;
  const std::vector<std::string> wanted = configs_of(run(all, order));
  for (std::size_t count = 0; count <= order.size(); ++count) {
    std::map<Key, Evaluation> known;
    for (std::size_t i = 0; i < count; ++i) known[order[i]] = all.at(order[i]);
    std::vector<Key> asked;
    EXPECT_EQ(configs_of(run(known, asked)), wanted);
    EXPECT_EQ(asked, std::vector(order.begin() + static_cast<std::ptrdiff_t>(count), order.end()));
  }
}

TEST(TuneSearch, HopelessTrialsAreAbandoned) {
  const Trial yardstick{{}, {{1, 24}, {1, 36}}};  // the first prompt is a hard one
  const Screen screen(yardstick, 30);
  EXPECT_FALSE(screen.is_hopeless({{}, {{1, 22.5}}}));  // points to 28.5
  EXPECT_TRUE(screen.is_hopeless({{}, {{1, 21.5}}}));   // points to 27.5
  EXPECT_TRUE(screen.is_hopeless({{}, {{1, 30}, {1, 25}}}));
}

TEST(TuneSearch, TheStartIsTriedOnAllPrompts) {
  const std::vector<Trial> trials = search(
      make_start(kWorkload), kWorkload, {90, 4}, 5,
      [&](const SparsityConfig& config, std::size_t) {
        return Evaluation{1, config.attn.delta == DeltaKind::kHalfMerge ? 20.0 : 10.0};
      },
      [](const Trial&) {});
  std::vector<std::size_t> num_evaluations;
  num_evaluations.reserve(trials.size());
  for (const Trial& trial : trials) num_evaluations.push_back(trial.evaluations.size());
  EXPECT_EQ(num_evaluations, (std::vector<std::size_t>{4, 1, 1, 1, 1}));
}

}  // namespace
}  // namespace mochi::study
