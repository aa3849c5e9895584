// Means, tables and words that a report makes from the measured sites.
#include "study/analysis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

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

// Steps: full, sparse (both branches), cached, sparse (unguided); layer 0 is dense.
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
  analysis.noise_levels = {1, 0.75, 0.5, 0.25, 0};
  analysis.latents_errors = {0, 0.1, 0.2, 0.3};
  analysis.frames = {{.psnr = 20, .ssim = 0.5}};
  return analysis;
}

// The same, and step 3 is skipped.
Analysis make_sparse_skipping() {
  Analysis analysis = make_analysis();
  analysis.request.sparsity->step_skipping.rule = SkipRule::kEasy;
  std::erase_if(analysis.sites, [](const auto& entry) { return entry.second.step == 3; });
  analysis.skips[3] = {.step = 3, .estimated_error = 0.125, .true_error = 0.25};
  return analysis;
}

// Dense attention; steps 2 and 3 are skipped.
Analysis make_dense_skipping() {
  Analysis analysis = make_sparse_skipping();
  analysis.request.sparsity->attn.is_enabled = false;
  analysis.sites.clear();
  for (const int step : {0, 1}) {
    for (const bool is_null : {false, true}) {
      add(analysis, step, is_null, 0, SiteKind::kDense, {1, 1}, {1, 1});
    }
  }
  analysis.skips[2] = {.step = 2, .estimated_error = 0.075, .true_error = 0.05};
  return analysis;
}

TEST(Analysis, AStepIsNamedByItsSparseLayers) {
  const Analysis analysis = make_analysis();
  const char* const kinds[] = {"full", "sparse", "cached", "sparse"};
  for (int step = 0; step < 4; ++step) {
    EXPECT_EQ(summarise_step(analysis, step).kind, kinds[step]);
  }
  EXPECT_EQ(find_kind(make_sparse_skipping(), 3), "skipped");
  EXPECT_EQ(find_kind(make_dense_skipping(), 0), "dense");
  EXPECT_EQ(find_kind(make_dense_skipping(), 2), "skipped");
  Analysis without_sites = analysis;
  without_sites.sites.clear();
  EXPECT_EQ(find_kind(without_sites, 1), "dense");
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
  const std::vector<KindTimes> skipping = split_times(make_dense_skipping());
  ASSERT_EQ(skipping.size(), 2U);
  EXPECT_EQ(skipping[1].kind, "skipped");
  EXPECT_DOUBLE_EQ(skipping[1].dense_seconds, 7);
  EXPECT_DOUBLE_EQ(skipping[1].sparse_seconds, 1.5);
}

TEST(Analysis, ProductsAreAveragedAndTheWorstLayersStayExact) {
  Analysis analysis = make_analysis();
  EXPECT_TRUE(average_products(analysis).empty());
  const auto add_product = [&](int step, int block, LayerGroup layers, double int8) {
    analysis.products.push_back({.step = step,
                                 .block = block,
                                 .layers = layers,
                                 .errors = {{ComputeType::kInt8, int8}, {ComputeType::kFp8, 0.5}}});
  };
  add_product(0, 1, LayerGroup::kAttention, 0.25);
  add_product(0, 0, LayerGroup::kFeedForward, 0.0625);
  add_product(3, 0, LayerGroup::kFeedForward, 0.1875);
  add_product(0, 0, LayerGroup::kAttention, 0.125);
  const std::vector<LayerErrors> layers = average_products(analysis);
  ASSERT_EQ(layers.size(), 3U);
  EXPECT_EQ(layers[0].layers, LayerGroup::kAttention);
  EXPECT_EQ(layers[1].block, 0);
  EXPECT_DOUBLE_EQ(layers[1].errors.at(ComputeType::kInt8), 0.125);
  EXPECT_DOUBLE_EQ(layers[1].errors.at(ComputeType::kFp8), 0.5);
  EXPECT_EQ(layers[2].block, 1);
  EXPECT_TRUE(plan_int8(layers).overrides.empty());  // twice the median is not more
  add_product(3, 1, LayerGroup::kAttention, 0.5);
  const ComputePlan plan = plan_int8(average_products(analysis));
  EXPECT_EQ(plan.type, ComputeType::kInt8);
  ASSERT_EQ(plan.overrides.size(), 1U);
  EXPECT_EQ(plan.overrides[0].first_block, 1);
  EXPECT_EQ(plan.overrides[0].last_block, 1);
  EXPECT_EQ(plan.overrides[0].layers, LayerGroup::kAttention);
  EXPECT_EQ(plan.overrides[0].type, ComputeType::kBf16);
  const std::vector<std::string> words = summarise_in_words(analysis);
  EXPECT_EQ(words[words.size() - 2],
            "In int8, the products of the blocks' linear layers would have a mean relative error "
            "of 0.21; the largest, in block 1 (attention), is 0.38. With --compute-table "
            "compute.json, mochi generate uses int8, except in 1 of 3 groups, whose error is more "
            "than twice the median.");
}

TEST(Analysis, KnowsWhetherStepsAreSkippedAndNothingElse) {
  EXPECT_FALSE(make_analysis().has_skipping());
  EXPECT_TRUE(make_sparse_skipping().has_skipping());
  EXPECT_FALSE(make_sparse_skipping().only_skips());
  EXPECT_TRUE(make_dense_skipping().only_skips());
  Analysis with_caching = make_dense_skipping();
  with_caching.request.sparsity->step_caching.is_enabled = true;
  EXPECT_FALSE(with_caching.only_skips());
  EXPECT_EQ(make_sparse_skipping().evaluated_steps(), (std::vector<int>{0, 1, 2}));
}

TEST(Analysis, ErrorsOfSkippedStepsAreAveragedAndTheLargestIsNamed) {
  EXPECT_FALSE(summarise_skips(make_analysis()));
  Analysis analysis = make_dense_skipping();
  const std::optional<SkipSummary> summary = summarise_skips(analysis);
  ASSERT_TRUE(summary);
  EXPECT_DOUBLE_EQ(summary->mean_error, 0.15);
  EXPECT_DOUBLE_EQ(summary->mean_estimate.value(), 0.1);
  EXPECT_EQ(summary->worst.step, 3);
  for (auto& [step, skip] : analysis.skips) skip.estimated_error.reset();
  EXPECT_FALSE(summarise_skips(analysis)->mean_estimate);
}

TEST(Analysis, EveryBranchThatGuidanceNeedsHasRows) {
  const std::string csv = make_sites_csv(make_analysis());
  expect_contains(csv, "\ncond,1,1,1,sparse,0.2,0.7,0.25,0.25,0.25,0.25,0.25\n");
  expect_contains(csv, "\nuncond,0,2,0,cached,,,,,,,\n");
  EXPECT_EQ(csv.find("uncond,0,3"), std::string::npos);
  expect_contains(make_steps_csv(make_analysis()), "\n2,cached,0.5,,,,,,,,,,0.2,3,0.5\n");
}

TEST(Analysis, TablesHaveTheErrorsOfSkippedSteps) {
  Analysis analysis = make_dense_skipping();
  expect_contains(make_sites_csv(analysis), "\ncond,0,2,0,skipped,,,,,,,\n");
  const std::string csv = make_steps_csv(analysis);
  expect_contains(csv, ",error_none,estimated_velocity_error,velocity_error,latents_error,");
  expect_contains(csv, "\n1,dense,0.75,,,,,,,,,,0.1,2,2\n");
  expect_contains(csv, "\n3,skipped,0.25,,,,,,,,0.125,0.25,0.3,4,1\n");
  nlohmann::ordered_json json = describe_analysis(analysis);
  EXPECT_EQ(json["velocity_errors"]["mean"], 0.15);
  EXPECT_EQ(json["velocity_errors"]["largest_at_step"], 3);
  EXPECT_EQ(json["steps"][3]["estimated_velocity_error"], 0.125);
  EXPECT_EQ(json["steps"][3]["velocity_error"], 0.25);
  EXPECT_EQ(json["steps"][3]["noise_level"], 0.25);
  EXPECT_EQ(json["speed_up"], 1);
  for (auto& [step, skip] : analysis.skips) skip.estimated_error.reset();
  expect_contains(make_steps_csv(analysis), "\n3,skipped,0.25,,,,,,,,,0.25,0.3,4,1\n");
  json = describe_analysis(analysis);
  EXPECT_EQ(json["velocity_errors"]["estimated_mean"].dump(), "null");
  EXPECT_TRUE(describe_analysis(make_analysis())["velocity_errors"].is_null());
}

TEST(Analysis, ABranchThatDidNotRunIsSkipped) {
  Analysis analysis = make_analysis();
  analysis.sites.erase({1, true, 0});
  expect_contains(make_sites_csv(analysis), "\nuncond,0,1,0,skipped,,,,,,,\n");
}

TEST(Analysis, TheVerdictCountsTheEvaluatedSteps) {
  EXPECT_EQ(judge(make_analysis()).size(), 2U);
  EXPECT_EQ(judge(make_dense_skipping()).back(), "2 of 4 steps were evaluated, 2 skipped.");
  Analysis analysis = make_dense_skipping();
  analysis.skips.clear();
  EXPECT_EQ(judge(analysis).back(), "All 4 steps were evaluated.");
}

TEST(Analysis, TheSummaryJudgesTheEstimateOfTheRule) {
  Analysis analysis = make_dense_skipping();
  const auto summary = [&] { return summarise_in_words(analysis); };
  ASSERT_EQ(summary().size(), 3U);  // nothing about columns
  expect_contains(summary()[0], "The video with skipped steps has a PSNR");
  EXPECT_EQ(
      summary()[1],
      "The velocities that were predicted for skipped steps have a mean relative error of "
      "0.15 (estimated: 0.1); the largest, at step 3, is 0.25. The rule estimated 0.12 there, "
      "which is near it.");
  analysis.skips[3].estimated_error = 0.1;
  expect_contains(summary()[1], "The rule estimated 0.1 there, less than half of it.");
  analysis.skips[3].estimated_error = 0.6;
  expect_contains(summary()[1], "The rule estimated 0.6 there, more than twice as much.");
  for (auto& [step, skip] : analysis.skips) skip.estimated_error.reset();
  expect_contains(summary()[1],
                  "error of 0.15; the largest, at step 3, is 0.25. The rule estimates");
  EXPECT_EQ(summarise_in_words(make_sparse_skipping()).size(), 5U);
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
  const std::size_t verdict = page.find("<p class=\"lead\">The videos look different");
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
  expect_contains(page,
                  "<td>text (encoded once)</td><td>below 0.01</td><td>below 0.01</td><td>–</td>");
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

TEST(AnalysisPage, ShowsSkippedSteps) {
  Analysis analysis = make_dense_skipping();
  analysis.has_videos = true;
  const std::string page = make_analysis_page(analysis, make_recipe());
  expect_contains(page, "<h1>Skipped steps against all steps</h1>");
  expect_contains(page, "src=\"skipping.mp4\"");
  expect_contains(page, "PSNR of each frame, skipping against dense");
  expect_contains(page, "<h2>Skipped steps</h2>");
  expect_contains(page, "<title>evaluated: 1, 0.75</title>");
  expect_contains(page, "<title>skipped: 3, 0.25</title>");
  expect_contains(page, "<title>true: 3, 0.25</title>");
  expect_contains(page, "<title>estimated by the rule: 3, 0.125</title>");
  expect_contains(page, "<td>skipped</td><td>2, 3</td>");
  EXPECT_EQ(page.find("<h2>Columns kept"), std::string::npos);
  EXPECT_EQ(page.find("sparse"), std::string::npos);
  EXPECT_EQ(make_analysis_page(make_analysis(), make_recipe()).find("<h2>Skipped steps"),
            std::string::npos);
}

TEST(AnalysisPage, ShowsSkippedStepsOfSparseAttention) {
  Analysis analysis = make_sparse_skipping();
  std::string page = make_analysis_page(analysis, make_recipe());
  expect_contains(page, "<h2>Skipped steps</h2>");
  expect_contains(page, "<h2>Columns kept</h2>");
  expect_contains(page, "have the error of sparse attention, too");
  analysis.skips[3].estimated_error.reset();
  page = make_analysis_page(analysis, make_recipe());
  EXPECT_EQ(page.find("by the rule"), std::string::npos);
  analysis.skips.clear();
  page = make_analysis_page(analysis, make_recipe());
  expect_contains(page, "<h2>Skipped steps</h2>");
  EXPECT_EQ(page.find("predicted velocity"), std::string::npos);
}

}  // namespace
}  // namespace mochi::study
