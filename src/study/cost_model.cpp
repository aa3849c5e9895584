#include "study/cost_model.h"

#include <algorithm>

namespace mochi::study {
namespace {

// Cost of scoring the columns, relative to dense attention, about as on a CPU
// (bench/results/cpu-sparse.md).
constexpr double kScoringCost = 0.04;

// Operations of one step's attention, relative to dense attention.
double mix_layers(const SparsePlace& place, const Workload& workload, double sparse_layer) {
  const double dense_part =
      std::min(place.num_dense_layers / static_cast<double>(workload.num_layers), 1.0);
  return dense_part + (1 - dense_part) * sparse_layer;
}
double full_step_operations(const SparsePlace& place, const Workload& workload) {
  return mix_layers(place, workload, 1 + place.top_keys + kScoringCost / place.score_queries);
}
double sparse_step_operations(const SparsePlace& place, const Workload& workload) {
  return mix_layers(place, workload, place.top_keys);
}

double median_of_trial(const Trial& trial, double Evaluation::* member) {
  std::vector<double> values;
  values.reserve(trial.evaluations.size());
  for (const Evaluation& evaluation : trial.evaluations) values.push_back(evaluation.*member);
  return median_of(std::move(values));
}

// The least and the largest number of columns stand for those that top_p will choose.
SparsePlace estimate_place(const SparsityConfig& config, const Workload& workload) {
  SparsePlace place = place_of(config, workload).sparse.value_or(SparsePlace{});
  const AttentionSparsity& attn = config.attn;
  if (attn.top_p > 0) place.top_keys = (attn.min_keys + attn.max_keys) / 2;
  return place;
}

}  // namespace

CostModel::CostModel(const Workload& workload, double dense_step_seconds,
                     std::optional<SparseSteps> sparse)
    : workload_(workload), dense_step_seconds_(dense_step_seconds), sparse_(sparse) {
  if (sparse_) attention_seconds_ = estimate_attention(*sparse_);
}

double CostModel::estimate_attention(const SparseSteps& measured) const {
  const double operations = sparse_step_operations(measured.place, workload_);
  const double saved_seconds = dense_step_seconds_ - measured.sparse_seconds;
  if (operations >= 1 || saved_seconds <= 0) return 0;
  // All that a sparse step takes may be attention, but no more.
  return std::min(saved_seconds / (1 - operations), measured.sparse_seconds / operations);
}

double CostModel::predict(const Place& place) const {
  if (!place.sparse || !sparse_) return place.num_evaluated * dense_step_seconds_;
  const int num_full = std::min(place.sparse->num_full_steps, place.num_evaluated);
  return num_full * full_step_seconds(*sparse_, *place.sparse) +
         (place.num_evaluated - num_full) * sparse_step_seconds(*sparse_, *place.sparse);
}

double CostModel::full_step_seconds(const SparseSteps& measured, const SparsePlace& place) const {
  return measured.full_seconds +
         attention_seconds_ * (full_step_operations(place, workload_) -
                               full_step_operations(measured.place, workload_));
}

double CostModel::sparse_step_seconds(const SparseSteps& measured, const SparsePlace& place) const {
  return measured.sparse_seconds +
         attention_seconds_ * (sparse_step_operations(place, workload_) -
                               sparse_step_operations(measured.place, workload_));
}

CostModel measure_costs(const Workload& workload, std::span<const double> dense_step_seconds,
                        const Trial* start) {
  const double dense = median_of({dense_step_seconds.begin(), dense_step_seconds.end()});
  if (start == nullptr) return {workload, dense};
  SparseSteps sparse{.place = estimate_place(start->config, workload),
                     .full_seconds = median_of_trial(*start, &Evaluation::full_step_seconds),
                     .sparse_seconds = median_of_trial(*start, &Evaluation::sparse_step_seconds)};
  // Nothing is known to be saved if all steps of the start are full ones.
  if (sparse.sparse_seconds == 0) sparse.sparse_seconds = dense;
  return {workload, dense, sparse};
}

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace mochi::study
