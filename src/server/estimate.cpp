#include "server/estimate.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mochi::server {
namespace {

// The cost of one evaluation grows with the tokens n: linear layers as n, attention as n².
// Between the two lies n^1.3, which fits the sizes of Mochi 1 within a factor of 1.4.
constexpr double kCostExponent = 1.3;
// Enough of the latest videos to smooth what another program did to one of them.
constexpr std::size_t kNumAveraged = 5;

bool has_equal_size(const Workload& a, const Workload& b) {
  return a.num_latents == b.num_latents && a.num_branches == b.num_branches;
}

double seconds_per_evaluation(const Timing& timing) {
  return timing.sampling_seconds / timing.num_evaluated;
}

double scale_between(const Workload& from, const Workload& to) {
  const double ratio = static_cast<double>(to.num_latents) / static_cast<double>(from.num_latents);
  return std::pow(ratio, kCostExponent) * to.num_branches / from.num_branches;
}

double distance(const Workload& a, const Workload& b) {
  return std::abs(
      std::log(static_cast<double>(a.num_latents) / static_cast<double>(b.num_latents)));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

// The shares of 64 steps in docs/step-skipping.md, until a video has measured one.
// Below 16 steps nothing is skipped.
std::optional<double> usual_share(const Workload& wanted) {
  constexpr int kFewestSteps = 16;
  constexpr double kCareful = 15.0 / 64;
  constexpr double kFast = 10.0 / 64;
  if (wanted.method.starts_with("exact") || wanted.num_steps < kFewestSteps) return 1.0;
  if (wanted.method.starts_with("skip careful")) return kCareful;
  if (wanted.method.starts_with("skip fast")) return kFast;
  return std::nullopt;
}

// Rules that skip steps skip more of a longer sampling.
bool has_similar_steps(const Workload& a, const Workload& b) {
  constexpr double kSimilar = 1.25;
  const double ratio = static_cast<double>(a.num_steps) / b.num_steps;
  return ratio <= kSimilar && ratio >= 1 / kSimilar;
}

// The share of the steps that this method evaluates.
std::optional<double> evaluated_share(const Workload& wanted, std::span<const Timing> timings) {
  std::vector<double> shares;
  for (const Timing& timing : timings) {
    const bool is_alike =
        timing.workload.method == wanted.method && has_similar_steps(timing.workload, wanted);
    if (!is_alike || shares.size() == kNumAveraged) continue;
    shares.push_back(static_cast<double>(timing.num_evaluated) / timing.workload.num_steps);
  }
  if (shares.empty()) return usual_share(wanted);
  return median(std::move(shares));
}

bool is_usable(const Timing& timing) {
  return timing.num_evaluated > 0 && timing.workload.num_latents > 0 &&
         timing.workload.num_steps > 0;
}

}  // namespace

std::optional<Estimate> estimate_seconds(const Workload& wanted, std::span<const Timing> timings) {
  std::vector<Timing> usable;
  std::ranges::copy_if(timings, std::back_inserter(usable), is_usable);
  const std::optional<double> share = evaluated_share(wanted, usable);
  if (usable.empty() || !share) return std::nullopt;
  // The nearest size decides; of equally near ones those of the same method, then the latest.
  std::ranges::stable_sort(usable, [&](const Timing& a, const Timing& b) {
    const double to_a = distance(a.workload, wanted);
    const double to_b = distance(b.workload, wanted);
    if (to_a != to_b) return to_a < to_b;
    const auto likeness = [&wanted](const Workload& it) {
      return 2 * static_cast<int>(it.method == wanted.method) +
             static_cast<int>(it.num_steps == wanted.num_steps);
    };
    return likeness(a.workload) > likeness(b.workload);
  });
  std::vector<double> per_evaluation;
  std::vector<double> others;
  const Workload nearest = usable.front().workload;
  for (const Timing& timing : usable) {
    const bool is_alike = has_equal_size(timing.workload, nearest) &&
                          timing.workload.method == nearest.method &&
                          timing.workload.num_steps == nearest.num_steps;
    if (!is_alike || per_evaluation.size() == kNumAveraged) continue;
    per_evaluation.push_back(seconds_per_evaluation(timing) *
                             scale_between(timing.workload, wanted));
    others.push_back(timing.other_seconds * static_cast<double>(wanted.num_latents) /
                     static_cast<double>(timing.workload.num_latents));
  }
  const double num_evaluated = std::max(1.0, std::round(*share * wanted.num_steps));
  return Estimate{
      .seconds = num_evaluated * median(std::move(per_evaluation)) + median(std::move(others)),
      .is_measured = has_equal_size(nearest, wanted) && nearest.method == wanted.method &&
                     nearest.num_steps == wanted.num_steps};
}

}  // namespace mochi::server
