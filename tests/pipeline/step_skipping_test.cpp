// Step skipping in whole samplings of a tiny model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/difference.h"
#include "base/error.h"
#include "base/temp_folder.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/relative_error.h"

namespace mochi {
namespace {

class SkippedSteps : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    write_tiny_model(*folder_ / "model",
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer" / "spiece.model");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static Engine open() {
    return Engine(
        {.model_dir = *folder_ / "model", .precision = Precision::kFp32, .num_threads = 1});
  }

  static GenerateRequest make_request(const Engine& engine, const StepSkipping& skipping) {
    GenerateRequest request = engine.model().default_request();
    request.prompt = "a small red ball moves slowly to the left";
    request.num_steps = 12;
    request.sparsity.emplace();
    request.sparsity->patchify_is_enabled = false;
    request.sparsity->attn.is_enabled = false;
    request.sparsity->step_skipping = skipping;
    return request;
  }

  static StepSkipping schedule(std::set<int> steps) {
    return {.rule = SkipRule::kSchedule, .evaluated_steps = std::move(steps)};
  }

  struct Result {
    std::vector<float> values;
    std::vector<int> evaluated;
    std::vector<SamplerState> states;  // after each step but the last
  };
  static Result sample(Engine& engine, const GenerateRequest& request,
                       const SampleOptions& options = {}) {
    Result result;
    StepObserver observer;
    observer.after_step = [&](const StepView& view) {
      result.evaluated = view.evaluated_steps();
      if (auto state = view.state()) result.states.push_back(std::move(*state));
    };
    result.values = engine.sample(request, observer, options).values;
    return result;
  }

  static inline std::unique_ptr<TempFolder> folder_;
};

TEST_F(SkippedSteps, EvaluatingAllStepsIsTheUsualSampling) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, {.rule = SkipRule::kEasy, .threshold = 0.0});
  const Result result = sample(engine, request);
  EXPECT_EQ(result.evaluated.size(), 12U);
  request.sparsity.reset();
  EXPECT_EQ(result.values, sample(engine, request).values);
}

TEST_F(SkippedSteps, AHeldVelocityIsOneLongStep) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, schedule({0}));
  const Result held = sample(engine, request);
  EXPECT_EQ(held.evaluated, (std::vector<int>{0}));
  request.num_steps = 1;
  EXPECT_LE(relative_error(held.values, sample(engine, request).values), 1e-5);
}

TEST_F(SkippedSteps, RulesLeaveStepsOutAndStayNear) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, {});
  request.num_steps = 32;
  const std::vector<float> whole = sample(engine, request).values;
  for (const SkipRule rule : {SkipRule::kEasy, SkipRule::kLine, SkipRule::kBudget}) {
    for (const Extrapolation extrapolation : {Extrapolation::kHold, Extrapolation::kLine}) {
      StepSkipping& skipping = request.sparsity->step_skipping;
      const double threshold = rule == SkipRule::kEasy ? 0.3 : 0.1;
      skipping = {
          .rule = rule, .threshold = threshold, .extrapolation = extrapolation, .warm_up = 2};
      skipping.max_evaluations = 16;
      const Result result = sample(engine, request);
      EXPECT_LT(result.evaluated.size(), 29U) << static_cast<int>(rule);
      EXPECT_LE(relative_error(result.values, whole), 0.1) << static_cast<int>(rule);
    }
  }
}

TEST_F(SkippedSteps, FullStepsOfSparsityAreEvaluated) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, schedule({4}));
  request.sparsity->attn.is_enabled = true;
  request.sparsity->attn.first_n_dense_layers = 0;
  request.sparsity->attn.full_step_schedule = {0, 1, 7};
  request.sparsity->mlp = {.is_enabled = true, .full_step_every = 5, .counts_multiple_of = 4};
  EXPECT_EQ(sample(engine, request).evaluated, (std::vector<int>{0, 1, 4, 5, 7, 10}));
}

// Guidance 1 needs no unconditional branch: a guided step after such an evaluation is evaluated.
TEST_F(SkippedSteps, GuidanceThatComesBackIsEvaluated) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, schedule({0, 4}));
  request.cfg_schedule = {4, 4, 1, 1, 1, 1, 3, 3, 3, 1, 1, 1};
  EXPECT_EQ(sample(engine, request).evaluated, (std::vector<int>{0, 4, 6}));
}

std::vector<StepSkipping> many_rules() {
  return {{.rule = SkipRule::kEasy, .threshold = 0.2, .warm_up = 2},
          {.rule = SkipRule::kLine,
           .threshold = 0.01,
           .extrapolation = Extrapolation::kLine,
           .warm_up = 2,
           .longest_run = 3},
          {.rule = SkipRule::kLine, .threshold = 0.05, .correct_path = true, .warm_up = 2},
          {.rule = SkipRule::kBudget,
           .extrapolation = Extrapolation::kLine,
           .null_every = 2,
           .max_evaluations = 6},
          {.rule = SkipRule::kBudget, .correct_path = true, .null_every = 2, .max_evaluations = 7}};
}

// The report of each skipped step, after checking that the reports change nothing.
std::vector<SkipReport> measure_skips(Engine& engine, const GenerateRequest& request,
                                      const std::vector<float>& plain) {
  std::vector<SkipReport> skips;
  std::vector<int> evaluated;
  StepObserver observer;
  observer.skip = [&](const SkipReport& skip) { skips.push_back(skip); };
  observer.after_step = [&](const StepView& view) { evaluated = view.evaluated_steps(); };
  observer.site = [](const SiteReport& /*site*/) {};
  EXPECT_EQ(engine.sample(request, observer).values, plain);
  EXPECT_EQ(static_cast<int>(evaluated.size() + skips.size()), request.num_steps);
  for (const SkipReport& skip : skips) {
    EXPECT_EQ(std::ranges::count(evaluated, skip.step), 0) << skip.step;
  }
  return skips;
}

// Latents after one dense step from `state`.
std::vector<float> take_dense_step(Engine& engine, GenerateRequest request,
                                   const SamplerState& state) {
  request.sparsity.reset();
  const SamplerState start{state.num_steps_done, state.latents};
  std::vector<float> values;
  StepObserver observer;
  observer.after_step = [&](const StepView& view) {
    if (values.empty()) values = view.latents().values;
  };
  engine.sample(request, observer, {.start = &start});
  return values;
}

// Both velocities lead from the same latents to others, whose distances are in their proportion.
TEST_F(SkippedSteps, AMeasuredErrorIsThatOfOneStep) {
  Engine engine = open();
  for (StepSkipping skipping : many_rules()) {
    if (skipping.threshold) *skipping.threshold *= 50;  // to skip more steps
    for (const bool is_sparse : {false, true}) {
      GenerateRequest request = make_request(engine, skipping);
      request.cfg_schedule = {4, 4, 4, 1, 1, 3, 3, 3, 3, 3, 3, 3};
      request.sparsity->patchify_is_enabled = is_sparse;
      request.sparsity->attn.is_enabled = is_sparse;
      request.sparsity->attn.first_n_dense_layers = 0;
      const Result plain = sample(engine, request);
      const std::vector<SkipReport> skips = measure_skips(engine, request, plain.values);
      EXPECT_GE(skips.size(), 3U);
      for (const SkipReport& skip : skips) {
        EXPECT_EQ(skip.estimated_error.has_value(), skipping.rule != SkipRule::kBudget);
        if (skipping.rule == SkipRule::kEasy) {
          EXPECT_LT(skip.estimated_error.value(), skipping.threshold.value());
        }
        if (skip.step == 0 || skip.step + 1 == request.num_steps) continue;
        const auto at = static_cast<std::size_t>(skip.step);
        const SamplerState& before = plain.states[at - 1];
        const std::vector<float> dense = take_dense_step(engine, request, before);
        const std::vector<float>& predicted = plain.states[at].latents.values;
        const double error = difference_of(dense, predicted).squares;
        const double way = difference_of(dense, before.latents.values).squares;
        EXPECT_NEAR(skip.true_error, std::sqrt(error / way), 1e-3 * skip.true_error + 1e-4)
            << skip.step;
      }
    }
  }
}

TEST_F(SkippedSteps, ResumesFromEveryStep) {
  Engine engine = open();
  for (const StepSkipping& skipping : many_rules()) {
    for (const bool is_sparse : {false, true}) {
      GenerateRequest request = make_request(engine, skipping);
      request.cfg_schedule = {4, 4, 4, 1, 1, 3, 3, 3, 3, 3, 3, 3};
      request.sparsity->attn.is_enabled = is_sparse;
      request.sparsity->attn.first_n_dense_layers = 0;
      const Result whole = sample(engine, request);
      ASSERT_EQ(whole.states.size(), 11U);
      for (const SamplerState& state : whole.states) {
        const Result resumed = sample(engine, request, {.start = &state});
        EXPECT_EQ(resumed.values, whole.values) << state.num_steps_done;
        EXPECT_EQ(resumed.evaluated, whole.evaluated) << state.num_steps_done;
      }
    }
  }
}

TEST_F(SkippedSteps, TheStepsOfAnEarlierSamplingCanBeRepeated) {
  Engine engine = open();
  for (const StepSkipping& skipping : many_rules()) {
    GenerateRequest request = make_request(engine, skipping);
    const Result whole = sample(engine, request);
    request.sparsity->step_skipping.threshold = 1e-9;  // would decide otherwise
    const Result repeated = sample(
        engine, request, {.evaluated_steps = {whole.evaluated.begin(), whole.evaluated.end()}});
    EXPECT_EQ(repeated.values, whole.values);
    EXPECT_EQ(repeated.evaluated, whole.evaluated);
  }
}

TEST_F(SkippedSteps, DamagedStatesAreRefusedAndLatentsAloneAreEnough) {
  Engine engine = open();
  const GenerateRequest request = make_request(engine, many_rules().front());
  SamplerState state = sample(engine, request).states.at(6);
  const SamplerState latents_alone{state.num_steps_done, state.latents};
  EXPECT_EQ(sample(engine, request, {.start = &latents_alone}).evaluated.front(), 7);
  std::erase_if(state.caches,
                [](const CachedTensor& tensor) { return tensor.name.ends_with("cond.last"); });
  try {
    sample(engine, request, {.start = &state});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cached tensor 'step_skipping.cond.last' is missing");
  }
}

TEST_F(SkippedSteps, SchedulesMeantForMoreStepsAreSpread) {
  Engine engine = open();
  GenerateRequest request = make_request(engine, {});
  request.sparsity->attn.is_enabled = true;
  request.sparsity->attn.first_n_dense_layers = 0;
  request.sparsity->attn.full_step_schedule = {0, 1, 15, 30, 45, 60};
  request.sparsity->steps = 64;
  request.num_steps = 16;
  const std::vector<float> spread = sample(engine, request).values;
  request.sparsity->steps.reset();
  request.sparsity->attn.full_step_schedule = {0, 1, 4, 8, 11, 15};
  EXPECT_EQ(sample(engine, request).values, spread);
}

TEST_F(SkippedSteps, ProgressTellsTheEvaluations) {
  Engine engine = open();
  const GenerateRequest request = make_request(engine, schedule({0, 3, 9}));
  StepObserver observer;
  Progress last;
  observer.progress = [&last](const Progress& now) {
    if (now.phase == Phase::kSampling) last = now;
    if (now.phase == Phase::kSampling && now.num_done == 5) {
      EXPECT_EQ(now.num_evaluated, 2);
      EXPECT_EQ(now.num_evaluations_left, 1);
    }
    return true;
  };
  engine.sample(request, observer);
  EXPECT_EQ(last.num_evaluated, 3);
}

}  // namespace
}  // namespace mochi
