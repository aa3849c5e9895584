#include "study/analysis.h"

#include <algorithm>
#include <limits>

namespace mochi::study {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class Mean {
 public:
  void add(double value) {
    sum_ += value;
    ++count_;
  }
  bool is_empty() const { return count_ == 0; }
  double get() const { return count_ > 0 ? sum_ / static_cast<double>(count_) : kNan; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

// Averages the sparse sites that `is_wanted`, over one head, or over all if `head` is negative.
template <typename Wanted>
SparseMeans average_sites(const Analysis& analysis, const Wanted& is_wanted, int head = -1) {
  Mean kept, recalled;
  std::map<DeltaKind, Mean> errors;
  for (const DeltaKind delta : kDeltaKinds) errors[delta];
  for (const auto& [key, site] : analysis.sites) {
    if (site.kind != SiteKind::kSparse || !is_wanted(site)) continue;
    for (std::size_t i = 0; i < site.kept.size(); ++i) {
      if (head >= 0 && i != static_cast<std::size_t>(head)) continue;
      kept.add(site.kept[i]);
      recalled.add(site.recalled[i]);
    }
    for (const auto& [delta, error] : site.errors) errors[delta].add(error);
  }
  SparseMeans means{.kept = kept.get(), .recalled = recalled.get(), .errors = {}};
  for (const auto& [delta, error] : errors) means.errors[delta] = error.get();
  return means;
}

}  // namespace

int Analysis::num_layers() const {
  int number = 0;
  for (const auto& [key, site] : sites) number = std::max(number, site.layer + 1);
  return number;
}

int Analysis::num_heads() const {
  return sites.empty() ? 0 : static_cast<int>(sites.begin()->second.kept.size());
}

bool Analysis::has_branch(int step, bool is_null_branch) const {
  if (!is_null_branch) return true;
  return (request.cfg_schedule.empty() ? request.cfg_scale
                                       : request.cfg_schedule[static_cast<std::size_t>(step)]) != 1;
}

bool Analysis::has_skipping() const {
  return request.sparsity && request.sparsity->step_skipping.rule != SkipRule::kOff;
}

bool Analysis::only_skips() const {
  const SparsityConfig config = request.sparsity.value_or(SparsityConfig{});
  return has_skipping() && !config.attn.is_enabled && !config.mlp.is_enabled &&
         !config.step_caching.is_enabled;
}

std::vector<int> Analysis::evaluated_steps() const {
  std::vector<int> steps;
  for (int step = 0; step < request.num_steps; ++step) {
    if (!skips.contains(step)) steps.push_back(step);
  }
  return steps;
}

std::string_view kind_name(SiteKind kind) {
  switch (kind) {
    case SiteKind::kDense:
      return "dense";
    case SiteKind::kFull:
      return "full";
    case SiteKind::kSparse:
      return "sparse";
  }
  return "?";
}

std::string_view find_kind(const Analysis& analysis, int step) {
  if (analysis.skips.contains(step)) return kSkippedKind;
  bool has_sites = false, has_full = false, has_sparse = false;
  for (auto at = analysis.sites.lower_bound({step, false, 0});
       at != analysis.sites.end() && at->second.step == step; ++at) {
    has_sites = true;
    has_full |= at->second.kind == SiteKind::kFull;
    has_sparse |= at->second.kind == SiteKind::kSparse;
  }
  if (!has_sites && !analysis.sites.empty()) return kCachedKind;
  if (has_full) return kind_name(SiteKind::kFull);
  return kind_name(has_sparse ? SiteKind::kSparse : SiteKind::kDense);
}

StepSummary summarise_step(const Analysis& analysis, int step) {
  return {find_kind(analysis, step),
          average_sites(analysis, [&](const SiteReport& site) { return site.step == step; })};
}

SparseMeans summarise_all(const Analysis& analysis) {
  return average_sites(analysis, [](const SiteReport& /*site*/) { return true; });
}

std::optional<SkipSummary> summarise_skips(const Analysis& analysis) {
  if (analysis.skips.empty()) return std::nullopt;
  Mean error, estimate;
  for (const auto& [step, skip] : analysis.skips) {
    error.add(skip.true_error);
    if (skip.estimated_error) estimate.add(*skip.estimated_error);
  }
  const auto worst = std::ranges::max_element(
      analysis.skips, {}, [](const auto& entry) { return entry.second.true_error; });
  SkipSummary summary{.mean_error = error.get(), .mean_estimate = {}, .worst = worst->second};
  if (!estimate.is_empty()) summary.mean_estimate = estimate.get();
  return summary;
}

std::vector<LayerErrors> average_products(const Analysis& analysis) {
  std::map<std::pair<int, LayerGroup>, std::map<ComputeType, Mean>> means;
  for (const ProductReport& product : analysis.products) {
    for (const auto& [type, error] : product.errors) {
      means[{product.block, product.layers}][type].add(error);
    }
  }
  std::vector<LayerErrors> layers;
  for (const auto& [key, types] : means) {
    LayerErrors entry{.block = key.first, .layers = key.second, .errors = {}};
    for (const auto& [type, mean] : types) entry.errors[type] = mean.get();
    layers.push_back(std::move(entry));
  }
  return layers;
}

ComputePlan plan_int8(const std::vector<LayerErrors>& layers) {
  constexpr double kMaxOfMedian = 2;
  ComputePlan plan{.type = ComputeType::kInt8};
  if (layers.empty()) return plan;
  std::vector<double> errors;
  errors.reserve(layers.size());
  for (const LayerErrors& entry : layers) errors.push_back(entry.errors.at(ComputeType::kInt8));
  const auto middle = errors.begin() + std::ssize(errors) / 2;
  std::ranges::nth_element(errors, middle);
  for (const LayerErrors& entry : layers) {
    if (entry.errors.at(ComputeType::kInt8) <= kMaxOfMedian * *middle) continue;
    plan.overrides.push_back({entry.block, entry.block, entry.layers, ComputeType::kBf16});
  }
  return plan;
}

Grid average_by_step(const Analysis& analysis, double SparseMeans::* value) {
  Grid grid;
  for (int layer = 0; layer < analysis.num_layers(); ++layer) {
    std::vector<double>& row = grid.emplace_back();
    for (int step = 0; step < analysis.request.num_steps; ++step) {
      row.push_back(average_sites(analysis,
                                  [&](const SiteReport& site) {
                                    return site.step == step && site.layer == layer;
                                  }).*
                    value);
    }
  }
  return grid;
}

Grid average_by_head(const Analysis& analysis, double SparseMeans::* value) {
  Grid grid;
  for (int layer = 0; layer < analysis.num_layers(); ++layer) {
    std::vector<double>& row = grid.emplace_back();
    for (int head = 0; head < analysis.num_heads(); ++head) {
      const auto is_of_layer = [&](const SiteReport& site) { return site.layer == layer; };
      row.push_back(average_sites(analysis, is_of_layer, head).*value);
    }
  }
  return grid;
}

std::vector<KindTimes> split_times(const Analysis& analysis) {
  std::vector<KindTimes> times;
  for (int step = 0; step < analysis.request.num_steps; ++step) {
    const std::string_view kind = find_kind(analysis, step);
    auto found = std::ranges::find(times, kind, &KindTimes::kind);
    if (found == times.end()) found = times.insert(found, {.kind = kind, .steps = {}});
    found->steps.push_back(step);
    found->dense_seconds += analysis.dense.step_seconds[static_cast<std::size_t>(step)];
    found->sparse_seconds += analysis.sparse.step_seconds[static_cast<std::size_t>(step)];
  }
  return times;
}

double speed_up(const Analysis& analysis) {
  return analysis.dense.seconds.at(Phase::kSampling) / analysis.sparse.seconds.at(Phase::kSampling);
}

}  // namespace mochi::study
