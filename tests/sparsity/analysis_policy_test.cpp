// The report of an analysis about a site, compared with literal loops and identities.
#include "sparsity/analysis_policy.h"

#include <gtest/gtest.h>

#include "sparsity/policy_fixture.h"

namespace mochi {
namespace {

class Analysis : public OnCpu<PolicyBase> {
 protected:
  AnalysisPolicy make(const SparsityConfig& config) {
    return {config, kGrid, 7, [this](const SiteReport& report) { reports_.push_back(report); }};
  }

  std::vector<SiteReport> reports_;
};

std::vector<float> values_of(const Tensor& tensor) {
  return {tensor.view().f32().begin(), tensor.view().f32().end()};
}

TEST_F(Analysis, ChangesNoOutput) {
  for (const DeltaKind delta : {DeltaKind::kLseMerge, DeltaKind::kNone}) {
    AnalysisPolicy watched = make(make_config(delta));
    ColumnSparsePolicy plain(make_config(delta), kGrid, 7);
    for (int step = 0; step <= 7; ++step) {
      const Problem problem = problem_at(step);
      EXPECT_EQ(values_of(attend(watched, problem, step)), values_of(attend(plain, problem, step)));
    }
  }
}

TEST_F(Analysis, ReportsTheKindOfEachSite) {
  AnalysisPolicy policy = make(make_config());
  for (int step = 0; step <= 2; ++step) attend(policy, problem_at(step), step);
  attend(policy, problem_at(2, 0), 2, {Branch::kNull, 1});  // a dense layer
  attend(policy, problem_at(2, 0), 2,
         {Branch::kNull, 3});  // a late branch: nothing to be sparse with
  ASSERT_EQ(reports_.size(), 5U);
  const SiteKind kinds[] = {SiteKind::kFull, SiteKind::kFull, SiteKind::kSparse, SiteKind::kDense,
                            SiteKind::kFull};
  for (std::size_t i = 0; i < reports_.size(); ++i) {
    EXPECT_EQ(reports_[i].kind, kinds[i]) << i;
    EXPECT_EQ(reports_[i].step, std::min<int>(static_cast<int>(i), 2));
    EXPECT_EQ(reports_[i].is_null_branch, i >= 3);
    EXPECT_EQ(reports_[i].layer, i == 3 ? 1 : 3);
    ASSERT_EQ(reports_[i].kept.size(), static_cast<std::size_t>(kHeads));
    ASSERT_EQ(reports_[i].recalled.size(), static_cast<std::size_t>(kHeads));
    const bool is_sparse = reports_[i].kind == SiteKind::kSparse;
    EXPECT_EQ(reports_[i].kept[1] < 1, is_sparse);
    EXPECT_EQ(reports_[i].errors.size(), is_sparse ? kDeltaKinds.size() : 0U);
  }
}

TEST_F(Analysis, TheKeptFractionIsThatOfThePlan) {
  SparsityConfig config = make_config();
  config.attn.random_keys = 0.05;      // each head draws its own columns,
  config.attn.counts_multiple_of = 1;  // and so their numbers differ
  AnalysisPolicy policy = make(config);
  for (int step = 0; step <= 2; ++step) attend(policy, problem_at(step), step);
  const std::vector<double>& kept = reports_.back().kept;
  EXPECT_NE(kept[0], kept[1]);
  EXPECT_NEAR((kept[0] + kept[1]) / 2, policy.find_plan(kSite)->kept_fraction(*backend_), 1e-12);
}

// Softmax by hand over the bits of the plan.
TEST_F(Analysis, TheRecalledMassIsThatOfTheColumns) {
  AnalysisPolicy policy = make(make_config());
  for (int step = 0; step <= 2; ++step) attend(policy, problem_at(step), step);
  const Problem problem = problem_at(2);
  const std::span<const float> q = problem.q.view().f32();
  const std::span<const float> k = problem.k.view().f32();
  const TensorView& plan = policy.find_plan(kSite)->bits();
  const auto* words = reinterpret_cast<const std::uint32_t*>(plan.bytes());
  const auto num_tokens = static_cast<std::size_t>(problem.in.q.dim(1));
  const auto num_words = static_cast<std::size_t>(plan.dim(2));
  const auto num_groups = static_cast<std::size_t>(plan.dim(1));
  for (std::size_t head = 0; head < kHeads; ++head) {
    double mean = 0;
    for (std::size_t i = 0; i < num_tokens; ++i) {
      const std::size_t list = head * num_groups + i / static_cast<std::size_t>(192);
      double kept = 0, all = 0;
      for (std::size_t j = 0; j < num_tokens; ++j) {
        double logit = 0;
        for (std::size_t d = 0; d < kHeadDim; ++d) {
          logit += double{q[(head * num_tokens + i) * kHeadDim + d]} *
                   k[(head * num_tokens + j) * kHeadDim + d];
        }
        const double weight = std::exp(logit * problem.in.scale);
        all += weight;
        if ((words[list * num_words + j / 32] >> (j % 32) & 1U) != 0) kept += weight;
      }
      mean += kept / all / static_cast<double>(num_tokens);
    }
    EXPECT_LT(mean, 0.99);
    EXPECT_NEAR(reports_.back().recalled[head], mean, 1e-5);
  }
}

TEST_F(Analysis, AllColumnsRecallAll) {
  SparsityConfig config = make_config();
  config.attn.top_keys = 1;
  AnalysisPolicy policy = make(config);
  for (int step = 0; step <= 2; ++step) attend(policy, problem_at(step), step);
  for (const double kept : reports_.back().kept) EXPECT_EQ(kept, 1);
  for (const double recalled : reports_.back().recalled) EXPECT_NEAR(recalled, 1, 1e-5);
  for (const auto& [delta, error] : reports_.back().errors) EXPECT_LE(error, 3e-6);
}

TEST_F(Analysis, WithTheInputsOfTheFullStepOnlyNoDeltaErrs) {
  AnalysisPolicy policy = make(make_config());
  attend(policy, problem_at(0), 0);
  for (int step = 1; step <= 2; ++step) attend(policy, problem_at(1), step);
  for (const DeltaKind delta : kDeltaKinds) {
    if (delta == DeltaKind::kNone) continue;
    EXPECT_LE(reports_.back().errors.at(delta), 3e-6);
  }
  EXPECT_GT(reports_.back().errors.at(DeltaKind::kNone), 1e-2);
}

// Each error is that of a policy with this delta, whichever is configured, and wherever.
TEST_F(Analysis, ErrorsAreThoseOfThePoliciesAlone) {
  SparsityConfig mixed = make_config(DeltaKind::kSubtract);
  mixed.overrides.push_back({.steps = {1, 1}, .delta = DeltaKind::kNone});
  const Problem later = problem_at(3);
  std::map<DeltaKind, double> alone;
  for (const DeltaKind delta : kDeltaKinds) {
    ColumnSparsePolicy policy(make_config(delta), kGrid, 7);
    for (int step = 0; step <= 2; ++step) attend(policy, problem_at(step), step);
    alone[delta] = error(attend(policy, later, 3), dense(later));
  }
  for (const SparsityConfig& config : {mixed, make_config(DeltaKind::kLseMerge)}) {
    AnalysisPolicy policy = make(config);
    for (int step = 0; step <= 3; ++step) attend(policy, problem_at(step), step);
    for (const DeltaKind delta : kDeltaKinds) {
      EXPECT_NEAR(reports_.back().errors.at(delta), alone[delta], 1e-6);
    }
  }
}

}  // namespace
}  // namespace mochi
