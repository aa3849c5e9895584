#include "pipeline/step_skipper.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pipeline/sigma_schedule.h"

namespace mochi {
namespace {

std::vector<double> usual_sigmas(int num_steps) {
  return linear_quadratic_schedule(num_steps, 0.025, 0);
}

// Runs all steps with the same norms at every evaluation; returns the evaluated ones.
std::vector<int> run_skipper(StepSkipper& skipper, int num_steps, const VelocityNorms& norms,
                             int first_step = 0) {
  for (int step = first_step; step < num_steps; ++step) {
    if (skipper.skips(step)) {
      skipper.note_skip(step, 3);
    } else {
      skipper.note_evaluation(step, norms);
    }
  }
  return skipper.evaluated_steps();
}

using Steps = std::vector<int>;

TEST(StepSkipper, WithoutARuleEveryStepIsEvaluated) {
  StepSkipper skipper({}, usual_sigmas(8), {});
  EXPECT_EQ(run_skipper(skipper, 8, {}), (Steps{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(StepSkipper, TiersSkipLessOfFewSteps) {
  for (const SkipTier tier : {SkipTier::kCareful, SkipTier::kFast}) {
    const double usual = make_step_skipping(tier, 64).threshold.value_or(0);
    EXPECT_GT(usual, 0);
    EXPECT_EQ(make_step_skipping(tier, 32).threshold, usual);
    EXPECT_EQ(make_step_skipping(tier, 16).threshold, usual / 2);
    EXPECT_EQ(make_step_skipping(tier, 15).rule, SkipRule::kOff);
  }
}

TEST(StepSkipper, AScheduleIsFollowedAndNeededStepsAreAddedToIt) {
  const StepSkipping config{.rule = SkipRule::kSchedule, .evaluated_steps = {3, 6}};
  StepSkipper skipper(config, usual_sigmas(8), {5});
  EXPECT_EQ(run_skipper(skipper, 8, {}), (Steps{0, 3, 5, 6}));
  EXPECT_EQ(skipper.estimated_error(1), std::nullopt);
}

TEST(StepSkipper, TheEasyRuleEvaluatesOnceTheVelocityHasChanged) {
  // Noise levels 1, 0.9, …: a change of 10 % over a step of 0.1 is a rate of 1, so a threshold of
  // 0.25 is reached at the third step after an evaluation.
  std::vector<double> sigmas;
  for (int i = 0; i <= 10; ++i) sigmas.push_back(1 - 0.1 * i);
  const StepSkipping config{
      .rule = SkipRule::kEasy, .threshold = 0.25, .warm_up = 2, .cool_down = 0};
  StepSkipper skipper(config, sigmas, {});
  skipper.note_evaluation(0, {});
  EXPECT_FALSE(skipper.skips(1));  // two evaluations are needed to know the rate
  skipper.note_evaluation(1, {.former = 1, .change = 0.1});
  EXPECT_TRUE(skipper.skips(2));
  skipper.note_skip(2, 3);
  EXPECT_NEAR(skipper.estimated_error(2).value(), 0.1, 1e-6);
  EXPECT_TRUE(skipper.skips(3));
  skipper.note_skip(3, 3);
  EXPECT_NEAR(skipper.estimated_error(3).value(), 0.2, 1e-6);
  EXPECT_FALSE(skipper.skips(4));
  // An equal change over three steps gives a third of the rate, so that seven steps are skipped.
  skipper.note_evaluation(4, {.former = 1, .change = 0.1});
  for (int step = 5; step < 10; ++step) {
    EXPECT_TRUE(skipper.skips(step)) << step;
    skipper.note_skip(step, 3);
  }
}

TEST(StepSkipper, TheLineRuleKnowsItsErrorAfterThreeEvaluations) {
  std::vector<double> sigmas;
  for (int i = 0; i <= 10; ++i) sigmas.push_back(1 - 0.1 * i);
  const StepSkipping config{
      .rule = SkipRule::kLine, .threshold = 0.05, .warm_up = 0, .cool_down = 0};
  StepSkipper skipper(config, sigmas, {});
  const VelocityNorms norms{.former = 1, .change = 0.1, .current = 2, .line_error = 0.02};
  for (const int step : {0, 1, 2}) {
    EXPECT_FALSE(skipper.skips(step));
    skipper.note_evaluation(step, norms);
  }
  // Step i lies at ln((i + 1) / (11 − i)), so the rate is 0.01 / ln(5/3)². The errors of steps 3 to
  // 6 are 0.0026, 0.0105, 0.0261 and 0.0526.
  for (const int step : {3, 4, 5}) {
    EXPECT_TRUE(skipper.skips(step)) << step;
    skipper.note_skip(step, 3);
  }
  EXPECT_FALSE(skipper.skips(6));
}

TEST(StepSkipper, TheFirstStepsTheLastStepsAndLongRunsAreBounded) {
  StepSkipping config{.rule = SkipRule::kEasy, .threshold = 1e6, .warm_up = 5, .cool_down = 2};
  const VelocityNorms still{.former = 1};
  StepSkipper skipper(config, usual_sigmas(12), {});
  EXPECT_EQ(run_skipper(skipper, 12, still), (Steps{0, 1, 2, 3, 4, 10, 11}));
  config.longest_run = 2;
  StepSkipper bounded(config, usual_sigmas(12), {});
  EXPECT_EQ(run_skipper(bounded, 12, still), (Steps{0, 1, 2, 3, 4, 7, 10, 11}));
}

TEST(StepSkipper, VelocitiesThatAreNotKnownAreNeverTrusted) {
  const StepSkipping config{.rule = SkipRule::kEasy, .warm_up = 0, .cool_down = 0};
  StepSkipper skipper(config, usual_sigmas(6), {});
  const double nan = std::nan("");
  EXPECT_EQ(run_skipper(skipper, 6, {.former = nan, .change = nan}).size(), 6U);
}

TEST(StepSkipper, TheSlopeFollowsTheSignalToNoiseRatioAndIsBounded) {
  const std::vector<double> sigmas{1, 0.9, 0.7, 0.2, 0};
  const StepSkipping line{.rule = SkipRule::kSchedule,
                          .extrapolation = Extrapolation::kLine,
                          .evaluated_steps = {0, 1}};
  StepSkipper skipper(line, sigmas, {});
  skipper.note_evaluation(0, {});
  EXPECT_EQ(skipper.slope_weight(1), 0);
  skipper.note_evaluation(1, {});
  // The steps lie at ln(1/12), ln(2/11), ln(4/9) and ln(9/4).
  EXPECT_NEAR(skipper.slope_weight(2), std::log(22.0 / 9) / std::log(24.0 / 11), 1e-9);
  EXPECT_EQ(skipper.slope_weight(3), 3);  // 3.2, bounded
  StepSkipping hold = line;
  hold.extrapolation = Extrapolation::kHold;
  StepSkipper holding(hold, sigmas, {});
  run_skipper(holding, 2, {});
  EXPECT_EQ(holding.slope_weight(2), 0);
}

TEST(StepSkipper, ACorrectionTurnsHeldVelocitiesIntoALine) {
  const std::vector<double> sigmas{1, 0.9, 0.7, 0.4, 0};
  StepSkipping config{.rule = SkipRule::kSchedule, .correct_path = true, .evaluated_steps = {0, 3}};
  StepSkipper skipper(config, sigmas, {});
  EXPECT_EQ(skipper.correction_weights(0).cond, 0);
  run_skipper(skipper, 3, {});  // guidance 3
  // Step 1 is 0.2 long and lies 1/6 of the way, step 2 is 0.3 long and lies half way.
  const double moved = 0.2 / 6 + 0.3 / 2;
  EXPECT_NEAR(skipper.correction_weights(3).cond, 3 * moved, 1e-6);
  EXPECT_NEAR(skipper.correction_weights(3).null, -2 * moved, 1e-6);
  skipper.note_evaluation(3, {});
  EXPECT_EQ(skipper.correction_weights(3).cond, 0);
  config.correct_path = false;
  StepSkipper without(config, sigmas, {});
  run_skipper(without, 3, {});
  EXPECT_EQ(without.correction_weights(3).cond, 0);
}

TEST(StepSkipper, TheUnconditionalBranchMayTakePartLessOften) {
  const StepSkipping config{.rule = SkipRule::kOff, .null_every = 3};
  StepSkipper skipper(config, usual_sigmas(9), {4});
  Steps with_null;
  for (int step = 0; step < 9; ++step) {
    if (skipper.evaluates_null(step)) with_null.push_back(step);
    skipper.note_evaluation(step, {});
  }
  EXPECT_EQ(with_null, (Steps{0, 3, 4, 6}));
}

TEST(StepSkipper, ContinuesFromItsState) {
  const StepSkipping config{.rule = SkipRule::kEasy, .threshold = 0.1, .warm_up = 2};
  const VelocityNorms norms{.former = 3, .change = 0.17};
  StepSkipper whole(config, usual_sigmas(64), {});
  const Steps wanted = run_skipper(whole, 64, norms);
  EXPECT_LT(wanted.size(), 50U);
  for (const int cut : {1, 2, 17, 40, 63}) {
    StepSkipper first(config, usual_sigmas(64), {});
    run_skipper(first, cut, norms);
    StepSkipper second(config, usual_sigmas(64), {});
    second.restore(first.state());
    EXPECT_EQ(run_skipper(second, 64, norms, cut), wanted) << cut;
  }
}

TEST(StepSkipper, ABudgetIsKeptAtAnyNumberOfSteps) {
  for (const int num_steps : {1, 2, 4, 8, 16, 30, 64, 100}) {
    for (const int count : {1, 2, 5, 12, 20, 64, 200}) {
      const std::set<int> chosen = spread_evaluations(usual_sigmas(num_steps), count, {});
      EXPECT_LE(std::ssize(chosen), std::max(2, count)) << num_steps;
      if (count >= num_steps) {
        EXPECT_EQ(std::ssize(chosen), num_steps);
      }
      EXPECT_TRUE(chosen.contains(0));
      EXPECT_TRUE(chosen.contains(num_steps - 1));
    }
  }
  EXPECT_EQ(std::ssize(spread_evaluations(usual_sigmas(64), 20, {})), 20);
}

TEST(StepSkipper, ABudgetHoldsTheNeededStepsEvenIfThereAreMore) {
  const std::set<int> needed{0, 1, 15, 30, 45, 60};
  for (const int count : {3, 12}) {
    const std::set<int> chosen = spread_evaluations(usual_sigmas(64), count, needed);
    for (const int step : needed) EXPECT_TRUE(chosen.contains(step)) << step;
  }
}

TEST(StepSkipper, EstimatesWhatIsLeft) {
  const StepSkipping config{.rule = SkipRule::kSchedule, .evaluated_steps = {3, 6}};
  StepSkipper skipper(config, usual_sigmas(8), {});
  skipper.note_evaluation(0, {});
  EXPECT_EQ(skipper.estimate_evaluations(1), 2);
  EXPECT_EQ(skipper.estimate_evaluations(4), 1);
  EXPECT_EQ(skipper.estimate_evaluations(8), 0);
  StepSkipper easy({.rule = SkipRule::kEasy}, usual_sigmas(64), {});
  EXPECT_EQ(easy.estimate_evaluations(0), 64);
  const VelocityNorms norms{.former = 3, .change = 0.17};
  run_skipper(easy, 64, norms);
  EXPECT_NEAR(easy.estimate_evaluations(64), 0, 1e-9);
}

}  // namespace
}  // namespace mochi
