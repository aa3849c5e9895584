// Means, tables and words that a report makes from the measured sites.
#include "study/analysis.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/temp_folder.h"
#include "study/analysis_page.h"
#include "study/analysis_tables.h"
#include "study/analysis_words.h"

namespace mochi::study {
namespace {

void add(Analysis& analysis, int step, bool is_null, int layer, SiteKind kind,
         std::vector<double> kept, std::vector<double> recalled, double error = 0) {
  SiteReport site{step, layer, is_null, kind, std::move(kept), std::move(recalled)};
  if (kind == SiteKind::kSparse) {
    for (const DeltaKind delta : kDeltaKinds) site.errors[delta] = error;
  }
  analysis.sites[{step, is_null, layer}] = site;
}

// Steps: full, sparse (both branches), skipped, sparse (unguided); layer 0 is dense.
Analysis make_analysis() {
  Analysis analysis;
  analysis.request.num_steps = 4;
  analysis.request.cfg_schedule = {6, 6, 6, 1};
  analysis.request.sparsity = SparsityConfig{};
  for (const int step : {0, 1, 3}) {
    for (const bool is_null : {false, true}) {
      if (is_null && step == 3) continue;
      add(analysis, step, is_null, 0, SiteKind::kDense, {1, 1}, {1, 1});
    }
  }
  for (const bool is_null : {false, true}) {
    add(analysis, 0, is_null, 1, SiteKind::kFull, {1, 1}, {1, 1});
  }
  add(analysis, 1, false, 1, SiteKind::kSparse, {0.1, 0.2}, {0.5, 0.7}, 0.25);
  add(analysis, 1, true, 1, SiteKind::kSparse, {0.3, 0.4}, {0.6, 1.0}, 0.75);
  add(analysis, 3, false, 1, SiteKind::kSparse, {0.5, 0.5}, {0.8, 0.6}, 0.125);
  const RunTimes times{{{Phase::kSampling, 10}}, {1, 2, 3, 4}};
  analysis.dense = analysis.sparse = times;
  analysis.sparse.step_seconds = {4, 2, 0.5, 1};
  analysis.latents_errors = {0, 0.1, 0.2, 0.3};
  analysis.frames = {{.psnr = 20, .ssim = 0.5}};
  return analysis;
}

TEST(Analysis, AStepIsNamedByItsSparseLayers) {
  const Analysis analysis = make_analysis();
  const char* const kinds[] = {"full", "sparse", "skipped", "sparse"};
  for (int step = 0; step < 4; ++step) {
    EXPECT_EQ(summarise_step(analysis, step).kind, kinds[step]);
  }
  EXPECT_EQ(analysis.num_layers(), 2);
  EXPECT_EQ(analysis.num_heads(), 2);
}

TEST(Analysis, MeansAreOfSparseSites) {
  const Analysis analysis = make_analysis();
  const SparseMeans step = summarise_step(analysis, 1).means;
  EXPECT_DOUBLE_EQ(step.kept, 0.25);
  EXPECT_DOUBLE_EQ(step.recalled, 0.7);
  EXPECT_DOUBLE_EQ(step.errors.at(DeltaKind::kWeighted), 0.5);
  EXPECT_TRUE(std::isnan(summarise_step(analysis, 0).means.kept));
  EXPECT_TRUE(std::isnan(summarise_step(analysis, 2).means.errors.at(DeltaKind::kNone)));
  EXPECT_DOUBLE_EQ(summarise_all(analysis).kept, 2.0 / 6);
  const Grid by_step = average_by_step(analysis, &SparseMeans::recalled);
  ASSERT_EQ(by_step.size(), 2U);
  EXPECT_TRUE(std::isnan(by_step[0][1]));
  EXPECT_TRUE(std::isnan(by_step[1][2]));
  EXPECT_DOUBLE_EQ(by_step[1][3], 0.7);
  const Grid by_head = average_by_head(analysis, &SparseMeans::kept);
  EXPECT_DOUBLE_EQ(by_head[1][0], 0.3);
  EXPECT_DOUBLE_EQ(by_head[1][1], 1.1 / 3);
}

TEST(Analysis, TimesAreSplitByTheSparseRunsSteps) {
  const std::vector<KindTimes> times = split_times(make_analysis());
  ASSERT_EQ(times.size(), 3U);
  EXPECT_EQ(times[1].kind, "sparse");
  EXPECT_EQ(times[1].steps, (std::vector<int>{1, 3}));
  EXPECT_DOUBLE_EQ(times[1].dense_seconds, 6);
  EXPECT_DOUBLE_EQ(times[1].sparse_seconds, 3);
}

TEST(Analysis, EveryBranchThatGuidanceNeedsHasRows) {
  const std::string csv = make_sites_csv(make_analysis());
  expect_contains(csv, "\ncond,1,1,1,sparse,0.2,0.7,0.25,0.25,0.25,0.25,0.25\n");
  expect_contains(csv, "\nuncond,0,2,0,skipped,,,,,,,\n");
  EXPECT_EQ(csv.find("uncond,0,3"), std::string::npos);
  expect_contains(make_steps_csv(make_analysis()), "\n2,skipped,,,,,,,,0.2,3,0.5\n");
}

TEST(Analysis, TheSummaryContainsTheNumbers) {
  Analysis analysis = make_analysis();
  const std::vector<std::string> words = summarise_in_words(analysis);
  ASSERT_EQ(words.size(), 4U);
  expect_contains(words[0], "PSNR of 20.00 dB and a mean SSIM of 0.5000");
  expect_contains(words[1], "kept 33.3 % of the columns, which hold 70.0 %");
  expect_contains(words[2], "0.375 with subtract");
  expect_contains(words[3], "2 sparse steps: 1.5 s each (3 s in the dense run)");
  analysis.frames = {{.psnr = std::numeric_limits<double>::infinity(), .ssim = 1}};
  expect_contains(summarise_in_words(analysis)[0], "byte for byte");
}

TEST(Analysis, ABetterDeltaIsNamedWithTheReasonWhyItDoesNotDecide) {
  Analysis analysis = make_analysis();
  EXPECT_EQ(describe_better_delta(analysis), "");  // all are equal
  for (auto& [key, site] : analysis.sites) {
    if (site.kind == SiteKind::kSparse) site.errors[DeltaKind::kSubtract] /= 2;
  }
  const std::string text = describe_better_delta(analysis);
  expect_contains(text, "subtract is closer than half_merge, which is configured: 0.188 against");
  expect_contains(text, "That does not decide.");
  expect_contains(text, "over 50 prompts of the micro model");
  analysis.delta = DeltaKind::kWeighted;
  EXPECT_EQ(describe_better_delta(analysis).find("50 prompts"), std::string::npos);
  analysis.delta = DeltaKind::kSubtract;
  EXPECT_EQ(describe_better_delta(analysis), "");
  analysis.sites.clear();
  EXPECT_EQ(describe_better_delta(analysis), "");
}

nlohmann::ordered_json make_recipe() {
  return {{"version", "1"},
          {"model", {{"dir", "m"}}},
          {"engine", {{"dtype", "fp32"}}},
          {"request", {{"seed", 7}}}};
}

TEST(AnalysisPage, TheVerdictComesFirst) {
  Analysis analysis = make_analysis();
  const std::string page = make_analysis_page(analysis, make_recipe());
  const std::size_t verdict = page.find("<p class=\"lead\">The sparse video looks different");
  ASSERT_NE(verdict, std::string::npos);
  EXPECT_LT(verdict, page.find("<h2>"));
  EXPECT_EQ(page.find("<video"), std::string::npos);
}

TEST(AnalysisPage, VideosArePlayedIfThereAreAny) {
  Analysis analysis = make_analysis();
  analysis.has_videos = true;
  const std::string page = make_analysis_page(analysis, make_recipe());
  EXPECT_LT(page.find("src=\"dense.mp4\""), page.find("src=\"sparse.mp4\""));
  EXPECT_LT(page.find("src=\"sparse.mp4\""), page.find("<h2>Frames"));
  expect_contains(page, "<a href=\"sparse.mp4\">");
}

TEST(AnalysisPage, TimesThatAreTooShortHaveNoRatio) {
  Analysis analysis = make_analysis();
  analysis.dense.seconds[Phase::kText] = 0.0013;
  analysis.sparse.seconds[Phase::kText] = 0.0002;
  const std::string page = make_analysis_page(analysis, make_recipe());
  expect_contains(page, "<td>text</td><td>below 0.01</td><td>below 0.01</td><td>–</td>");
  expect_contains(page, "<td>sampling</td><td>10.00</td><td>10.00</td><td>1.00</td>");
}

TEST(AnalysisPage, NamesTheGainOfTheDifference) {
  Analysis analysis = make_analysis();
  analysis.strips = {{0}, {"a"}, {"b"}, {"c"}, 16};
  expect_contains(make_analysis_page(analysis, make_recipe()),
                  "difference, amplified 16 times; black where the videos are equal");
  analysis.strips.gain = 1;
  expect_contains(make_analysis_page(analysis, make_recipe()), "difference; black");
}

}  // namespace
}  // namespace mochi::study
