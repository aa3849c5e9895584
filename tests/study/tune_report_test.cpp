#include "study/tune_report.h"

#include <gtest/gtest.h>

#include "study/tune_start.h"

namespace mochi::study {
namespace {

constexpr Workload kSixtyFour{64, 8};

// A search for 40 dB with two prompts, in which dense steps take 1 s, full ones 1.2 s and sparse
// ones 0.5 s.
TuneRecord make_record() {
  TuneRecord record{.settings = {{"seed", 0}},
                    .start = make_start(kSixtyFour),
                    .workload = kSixtyFour,
                    .goal = {40, 2}};
  record.dense = {{64, 1, "a"}, {66, 1, "b"}};
  const auto add = [&](const Place& place, int num_evaluated, std::vector<double> seconds,
                       std::vector<double> psnrs) {
    Trial& trial = record.trials.emplace_back(make_config(record.start, place, kSixtyFour));
    for (std::size_t i = 0; i < seconds.size(); ++i) {
      trial.evaluations.push_back({.seconds = seconds[i],
                                   .psnr = psnrs[i],
                                   .num_evaluated = num_evaluated,
                                   .full_step_seconds = 1.2,
                                   .sparse_step_seconds = 0.5});
    }
  };
  add(place_of(record.start, kSixtyFour), 64, {36, 37}, {39, 37});
  add({16}, 16, {16, 16.5}, {44, 40});
  add({12}, 12, {12}, {35});
  add({24, SparsePlace{0.15, 6, 2, 1}}, 24, {16, 18}, {41, 40});
  return record;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(TuneReport, LinesNameStepsAndAttention) {
  const TuneRecord record = make_record();
  EXPECT_EQ(
      describe_progress(record, 1),
      "trial 2: 16 of 64 steps, dense attention: 42.00 dB (worst 40.00, prompt 2), 4.00 times "
      "as fast; fastest good one");
  EXPECT_TRUE(has(describe_progress(record, 2), "abandoned after 1 of 2 prompts; fastest so far"));
}

TEST(TuneReport, TheSummaryHasPredictedAndMeasuredSeconds) {
  const std::vector<std::string> lines = make_summary(make_record());
  ASSERT_EQ(lines.size(), 5U);  // one trial beats all others
  EXPECT_EQ(lines[2], "    2     16     16.00    16.25   4.00    42.00    40.00  dense attention");
  EXPECT_TRUE(has(lines[3], "The fastest of 40 dB or more is trial 2: 16 of 64 steps"));
  EXPECT_EQ(lines[4],
            "The fastest of 40 dB or more by method: step skipping alone: trial 2, 4.00 times as "
            "fast; sparse attention alone: not reached; both together: trial 4, 3.82 times as "
            "fast.");
}

TEST(TuneReport, ThePageOpensWithAVerdict) {
  TuneRecord record = make_record();
  std::string page = make_report(record);
  EXPECT_TRUE(has(page,
                  "Evaluate 16 of 64 steps with dense attention: 4.00 times as fast, at "
                  "42.00 dB."));
  EXPECT_TRUE(has(page,
                  "a step takes 1.00 s with dense attention; with the sparse attention of "
                  "the start, a full step takes 1.20 s and a sparse step 0.50 s."));
  for (const char* name : {"━</span> Pareto front", "●</span> step skipping, dense attention",
                           "■</span> sparse attention, every step", "▲</span> both"}) {
    EXPECT_TRUE(has(page, name)) << name;
  }
  EXPECT_TRUE(has(page, "Not in the plot: abandoned trials (1)."));
  // 6 full and 18 sparse steps.
  EXPECT_TRUE(has(page, "<td>3.82</td><td>40.50</td><td>40.00</td><td>17.00</td><td>16.20</td>"));
  record.goal.min_psnr = 50;
  page = make_report(record);
  EXPECT_TRUE(has(page, "No trial reaches 50 dB; the best, trial 2, has 42.00 dB."));
  record.goal.min_psnr = 30;
  record.dense = {{10, 1, "a"}, {10, 1, "b"}};
  EXPECT_TRUE(has(make_report(record), "No trial of 30 dB or more is faster than dense attention"));
}

TEST(TuneReport, SparseSecondsAreUnknownBeforeTheStart) {
  TuneRecord record = make_record();
  record.trials.erase(record.trials.begin());
  EXPECT_EQ(record.predict_seconds(0), 16);
  EXPECT_EQ(record.predict_seconds(2), std::nullopt);
  EXPECT_TRUE(has(make_report(record), "<td>17.00</td><td>–</td>"));
  record.trials[0].config.step_skipping.rule = SkipRule::kEasy;
  EXPECT_EQ(record.predict_seconds(0), std::nullopt);
}

}  // namespace
}  // namespace mochi::study
