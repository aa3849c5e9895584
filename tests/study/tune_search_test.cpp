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

// A quality that rises with each axis, as strongly as the numbers say. Dense attention is closer to
// the dense video of all steps than any sparse attention at as many steps.
struct Quality {
  double base, per_step, per_keys, per_full_step, per_dense_layer, per_scores;
  std::map<DeltaKind, double> of_delta = {};

  double find(const SparsityConfig& config) const {
    const Place place = place_of(config, kWorkload);
    const double psnr = base + per_step * std::log2(place.num_evaluated / 6.0);
    if (!place.sparse) return psnr;
    const SparsePlace& sparse = *place.sparse;
    const auto delta = of_delta.find(config.attn.delta);
    return psnr + per_keys * std::log2(sparse.top_keys) +
           per_full_step * std::log2(sparse.num_full_steps / 64.0) -
           per_dense_layer * (2 - sparse.num_dense_layers) -
           per_scores * (1 - 1.0 / sparse.score_queries) +
           (delta == of_delta.end() ? 0 : delta->second);
  }
};

struct Problem {
  Quality quality;
  double dense_seconds = 1, full_seconds = 1.2, sparse_seconds = 0.4;  // per step

  CostModel costs() const {
    const SparsePlace place = *place_of(make_start(kWorkload), kWorkload).sparse;
    return {kWorkload, dense_seconds, SparseSteps{place, full_seconds, sparse_seconds}};
  }
};

Problem make_problem(std::uint64_t seed) {
  std::vector<float> noise(8);
  fill_normal(NoiseSource::kMochi, seed, noise);
  const auto positive = [&](std::size_t i) { return std::abs(noise[i]); };
  // From sparse attention that ruins the video to one that hardly costs quality.
  const double weight = seed % 3 == 0 ? 0.2 : 1;
  return {{.base = 25.0 + noise[0],
           .per_step = 5 * positive(1),
           .per_keys = weight * 2 * positive(2),
           .per_full_step = weight * positive(3),
           .per_dense_layer = weight * positive(4),
           .per_scores = weight * 0.3 * positive(5)},
          1,
          1 + 0.3 * positive(6),
          0.2 + 0.3 * positive(7)};
}

Evaluation evaluate(const Problem& problem, const SparsityConfig& config) {
  return {.seconds = problem.costs().predict(place_of(config, kWorkload)),
          .psnr = problem.quality.find(config),
          .full_step_seconds = problem.full_seconds,
          .sparse_step_seconds = problem.sparse_seconds};
}

SearchTask make_task(const Problem& problem, double min_psnr, int max_trials,
                     SearchScope scope = SearchScope::kBoth) {
  return {make_start(kWorkload),  kWorkload, {min_psnr, 1}, scope, max_trials,
          {problem.dense_seconds}};
}

std::vector<Trial> search_with(const Problem& problem, double min_psnr, int max_trials = 100,
                               SearchScope scope = SearchScope::kBoth) {
  return search(
      make_task(problem, min_psnr, max_trials, scope),
      [&](const SparsityConfig& config, std::size_t) { return evaluate(problem, config); },
      [](const Trial&) {});
}

std::vector<std::string> configs_of(const std::vector<Trial>& trials) {
  std::vector<std::string> configs;
  configs.reserve(trials.size());
  for (const Trial& trial : trials) configs.push_back(to_json(trial.config));
  return configs;
}

// The seconds of the fastest good configuration: all are looked at.
double fastest(const Problem& problem, double min_psnr, SearchScope scope) {
  const CostModel costs = problem.costs();
  const SparsityConfig start = make_start(kWorkload);
  const bool skips_steps = scope != SearchScope::kSparsity;
  std::vector<Place> places;
  if (skips_steps) places = list_skipping_places(kWorkload);
  if (scope != SearchScope::kSkipping) {
    places.push_back(place_of(start, kWorkload));
    const std::vector<Place> sparse = list_sparse_places(kWorkload, skips_steps);
    places.insert(places.end(), sparse.begin(), sparse.end());
  }
  double seconds = std::numeric_limits<double>::infinity();
  for (const Place& place : places) {
    const SparsityConfig config = make_config(start, place, kWorkload);
    if (problem.quality.find(config) >= min_psnr) seconds = std::min(seconds, costs.predict(place));
  }
  return seconds;
}

constexpr std::array kGoals{20.0, 25.0, 27.0, 30.0, 33.0, 36.0, 40.0};
constexpr int kDefaultTrials = 32;

TEST(TuneSearch, FindsTheFastestGoodOne) {
  for (const SearchScope scope : kSearchScopes) {
    std::vector<std::size_t> num_trials;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      const Problem problem = make_problem(seed);
      for (const double min_psnr : kGoals) {
        const std::vector<Trial> trials = search_with(problem, min_psnr, kDefaultTrials, scope);
        num_trials.push_back(trials.size());
        const double wanted = fastest(problem, min_psnr, scope);
        if (wanted >= 64 * problem.dense_seconds) continue;  // nothing is faster than dense
        const auto found = find_fastest(trials, {min_psnr, 1});
        ASSERT_TRUE(found) << seed << " " << min_psnr;
        // Smaller differences are not worth a trial.
        EXPECT_LE(0.97 * trials[*found].evaluations[0].seconds, wanted) << seed << " " << min_psnr;
      }
    }
    std::ranges::sort(num_trials);
    EXPECT_LE(num_trials[num_trials.size() / 2], 16U);
    EXPECT_LE(num_trials[num_trials.size() * 9 / 10], 25U);
  }
}

TEST(TuneSearch, SkippingAloneNeedsFewTrials) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    for (const double min_psnr : kGoals) {
      const std::vector<Trial> trials =
          search_with(make_problem(seed), min_psnr, 100, SearchScope::kSkipping);
      EXPECT_LE(trials.size(), 4U);
      for (const Trial& trial : trials) EXPECT_FALSE(trial.config.attn.is_enabled);
    }
  }
}

TEST(TuneSearch, SparsityAloneEvaluatesEveryStep) {
  for (const Trial& trial : search_with(make_problem(4), 30, 100, SearchScope::kSparsity)) {
    EXPECT_TRUE(trial.config.attn.is_enabled);
    EXPECT_EQ(trial.config.step_skipping.rule, SkipRule::kOff);
  }
}

// Sparse attention that saves no time is left after the start.
TEST(TuneSearch, SparseAttentionThatSavesNothingIsNotSearched) {
  Problem problem = make_problem(2);
  problem.sparse_seconds = 1.1;
  const std::vector<Trial> trials = search_with(problem, 30);
  EXPECT_GT(trials.size(), 1U);
  for (std::size_t i = 1; i < trials.size(); ++i) {
    EXPECT_FALSE(trials[i].config.attn.is_enabled);
  }
}

TEST(TuneSearch, SettledConfigurationsAreNeverTried) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Problem problem = make_problem(seed);
    const std::vector<Trial> trials = search_with(problem, 30);
    const std::vector<std::string> configs = configs_of(trials);
    EXPECT_EQ(std::set(configs.begin(), configs.end()).size(), configs.size());
    const std::size_t num_starts = list_starts(make_start(kWorkload)).size();
    for (std::size_t later = 1; later < trials.size(); ++later) {
      const SparsityConfig& config = trials[later].config;
      const Place place = place_of(config, kWorkload);
      const bool is_start = later <= num_starts + 4 && place.sparse && place.num_evaluated == 64;
      for (std::size_t earlier = 0; earlier < later && !is_start; ++earlier) {
        const Trial& before = trials[earlier];
        if (before.config.attn.is_enabled && before.config.attn.delta != config.attn.delta)
          continue;
        const Place known = place_of(before.config, kWorkload);
        if (before.evaluations[0].psnr >= 30) {
          EXPECT_LE(problem.costs().predict(place), 0.97 * problem.costs().predict(known));
        } else {
          EXPECT_FALSE(is_as_sparse(place, known));
        }
      }
    }
  }
}

TEST(TuneSearch, KeepsToItsBudgetAndIsDeterministic) {
  const Problem problem = make_problem(3);
  const std::vector<std::string> all = configs_of(search_with(problem, 30));
  for (int max_trials = 1; max_trials <= std::ssize(all); ++max_trials) {
    const auto some = configs_of(search_with(problem, 30, max_trials));
    EXPECT_EQ(some, std::vector(all.begin(), all.begin() + max_trials));
  }
}

TEST(TuneSearch, ContinuesWithTheBestDelta) {
  Problem problem = make_problem(3);
  problem.quality.of_delta = {{DeltaKind::kWeighted, 2}, {DeltaKind::kSubtract, -10}};
  const std::vector<Trial> trials = search_with(problem, 30, 100, SearchScope::kSparsity);
  const std::size_t num_starts = list_starts(make_start(kWorkload)).size();
  ASSERT_GT(trials.size(), num_starts);
  for (std::size_t i = num_starts; i < trials.size(); ++i) {
    EXPECT_EQ(trials[i].config.attn.delta, DeltaKind::kWeighted);
  }
}

// Only those of the start's steps count, which are measured once.
TEST(TuneSearch, TimesOfLaterTrialsDoNotMatter) {
  const Problem problem = make_problem(5);
  double seconds = 100;
  bool is_start = true;
  const std::vector<Trial> trials = search(
      make_task(problem, 30, 100),
      [&](const SparsityConfig& config, std::size_t) {
        Evaluation found = evaluate(problem, config);
        found.seconds = seconds = std::fmod(seconds * 7.3, 50);
        if (!is_start) found.full_step_seconds = found.sparse_step_seconds = seconds;
        is_start = false;
        return found;
      },
      [](const Trial&) {});
  EXPECT_EQ(configs_of(trials), configs_of(search_with(problem, 30)));
}

// Known evaluations stand for a search that was interrupted. For any number of them, the rest is
// the same and none of them is evaluated again.
TEST(TuneSearch, KnownEvaluationsDoNotChangeTheTrials) {
  const Problem problem = make_problem(8);
  constexpr std::size_t kNumPrompts = 3;
  using Key = std::pair<std::string, std::size_t>;
  const auto run = [&](std::map<Key, Evaluation>& known, std::vector<Key>& asked) {
    SearchTask task = make_task(problem, 30, 100);
    task.goal.num_prompts = kNumPrompts;
    return search(
        task,
        [&](const SparsityConfig& config, std::size_t prompt_idx) {
          const Key key{to_json(config), prompt_idx};
          if (known.contains(key)) return known.at(key);
          asked.push_back(key);
          Evaluation found = evaluate(problem, config);
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

TEST(TuneSearch, TheFirstTrialIsTriedOnAllPrompts) {
  for (const SearchScope scope : kSearchScopes) {
    SearchTask task = make_task(make_problem(0), 90, 5, scope);
    task.goal.num_prompts = 4;
    int num_asked = 0;
    const std::vector<Trial> trials = search(
        task,
        [&](const SparsityConfig&, std::size_t) {
          return Evaluation{.seconds = 1,
                            .psnr = ++num_asked <= 4 ? 20.0 : 10.0,
                            .full_step_seconds = 1.2,
                            .sparse_step_seconds = 0.4};
        },
        [](const Trial&) {});
    ASSERT_GT(trials.size(), 1U);
    for (std::size_t i = 0; i < trials.size(); ++i) {
      EXPECT_EQ(trials[i].evaluations.size(), i == 0 ? 4U : 1U);
    }
  }
}

}  // namespace
}  // namespace mochi::study
