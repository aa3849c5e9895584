// Predicts the sampling time of configurations from a few measured steps.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "study/search_space.h"
#include "study/trial.h"

namespace mochi::study {

// Measured seconds of one evaluated step of sparse attention.
struct SparseSteps {
  SparsePlace place;  // the configuration that was measured
  double full_seconds = 0;
  double sparse_seconds = 0;
};

// The sum over the evaluated steps. A skipped step takes no time.
class CostModel {
 public:
  // Without `sparse`, only the cost of dense attention can be predicted.
  CostModel(const Workload& workload, double dense_step_seconds,
            std::optional<SparseSteps> sparse = {});

  double dense_step_seconds() const { return dense_step_seconds_; }
  const std::optional<SparseSteps>& sparse() const { return sparse_; }

  bool can_predict(const Place& place) const { return !place.sparse || sparse_.has_value(); }

  // Returns the seconds of sampling one video at a position that can be predicted.
  double predict(const Place& place) const;

 private:
  double estimate_attention(const SparseSteps& measured) const;
  double full_step_seconds(const SparseSteps& measured, const SparsePlace& place) const;
  double sparse_step_seconds(const SparseSteps& measured, const SparsePlace& place) const;

  Workload workload_;
  double dense_step_seconds_;
  std::optional<SparseSteps> sparse_;
  double attention_seconds_ = 0;  // time of a dense step's attention
};

// Makes the model from the medians of the dense videos and of the start's trial at every step.
CostModel measure_costs(const Workload& workload, std::span<const double> dense_step_seconds,
                        const Trial* start);

// Returns the median; for an even count, the mean of the two middle values; 0 for no values.
double median_of(std::vector<double> values);

}  // namespace mochi::study
