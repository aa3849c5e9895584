#include "pipeline/step_skipper.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mochi {
namespace {

constexpr double kLargestSlopeWeight = 3;  // extrapolation over longer gaps is not trusted

double default_threshold(SkipRule rule) { return rule == SkipRule::kLine ? 0.02 : 0.1; }

// Returns the place of each noise level: the logarithm of its signal-to-noise ratio, bounded at
// both ends. Evaluations that are evenly spaced in this measure are about equally useful.
std::vector<double> measure_places(const std::vector<double>& sigmas) {
  const double least_signal = 1 - sigmas[1];
  const double least_noise = sigmas[sigmas.size() - 2];
  std::vector<double> places(sigmas.size());
  std::ranges::transform(sigmas, places.begin(), [&](double sigma) {
    return std::log((1 - sigma + least_signal) / (sigma + least_noise));
  });
  return places;
}

// Steps from the first one to the last one, each as far from the one before as `width` allows, but
// at least the next; steps of `needed` are not jumped over.
std::set<int> jump(const std::vector<double>& places, const std::set<int>& needed, double width) {
  const int last = static_cast<int>(places.size()) - 2;
  std::set<int> chosen{0};
  for (int here = 0; here < last;) {
    const auto here_at = static_cast<std::size_t>(here);
    int next = here + 1;
    while (next < last && !needed.contains(next) &&
           places[static_cast<std::size_t>(next) + 1] - places[here_at] <= width) {
      ++next;
    }
    chosen.insert(next);
    here = next;
  }
  return chosen;
}

}  // namespace

StepSkipper::StepSkipper(StepSkipping config, std::vector<double> sigmas, std::set<int> always)
    : config_(std::move(config)),
      sigmas_(std::move(sigmas)),
      always_(std::move(always)),
      places_(measure_places(sigmas_)) {
  if (config_.rule == SkipRule::kSchedule) chosen_ = config_.evaluated_steps;
  if (config_.rule == SkipRule::kBudget) {
    chosen_ = spread_evaluations(sigmas_, config_.max_evaluations, always_);
  }
}

bool StepSkipper::is_always_evaluated(int step) const {
  const std::vector<int>& evaluated = state_.evaluated_steps;
  if (evaluated.empty() || always_.contains(step)) return true;
  return config_.longest_run > 0 && step - evaluated.back() > config_.longest_run;
}

double StepSkipper::gap_before(int step) const {
  return place(step) - place(state_.evaluated_steps.back());
}

double StepSkipper::change_at(int step) const {
  return state_.change_rate * (sigma(state_.evaluated_steps.back()) - sigma(step));
}

double StepSkipper::line_distance_at(int step) const {
  const double gap = gap_before(step);
  return state_.line_rate * gap * gap;
}

double StepSkipper::error_at(int step) const {
  if (config_.rule == SkipRule::kEasy) return change_at(step);
  return state_.line_error + line_distance_at(step) * (place(step) - place(step - 1));
}

bool StepSkipper::skips(int step) const {
  switch (config_.rule) {
    case SkipRule::kOff:
      return false;
    case SkipRule::kSchedule:
    case SkipRule::kBudget:
      return !state_.evaluated_steps.empty() && !always_.contains(step) && !chosen_.contains(step);
    case SkipRule::kEasy:
    case SkipRule::kLine:
      break;
  }
  if (is_always_evaluated(step)) return false;
  if (step < config_.warm_up || step >= num_steps() - config_.cool_down) return false;
  // Not a number where steps do not move: nothing is known about those.
  return error_at(step) < config_.threshold.value_or(default_threshold(config_.rule));
}

bool StepSkipper::evaluates_null(int step) const {
  const auto num_evaluated = static_cast<int>(state_.evaluated_steps.size());
  return always_.contains(step) || num_evaluated % config_.null_every == 0;
}

bool StepSkipper::needs_norms() const {
  return config_.rule == SkipRule::kEasy || config_.rule == SkipRule::kLine;
}

double StepSkipper::line_weight(int step) const {
  const std::vector<int>& evaluated = state_.evaluated_steps;
  if (evaluated.size() < 2) return 0;
  const double last = place(evaluated.back());
  const double gap = last - place(evaluated[evaluated.size() - 2]);
  return gap > 0 ? std::min((place(step) - last) / gap, kLargestSlopeWeight) : 0;
}

double StepSkipper::slope_weight(int step) const {
  return config_.extrapolation == Extrapolation::kLine ? line_weight(step) : 0;
}

CorrectionWeights StepSkipper::correction_weights(int step) const {
  if (!config_.correct_path || state_.evaluated_steps.empty()) return {};
  const double gap = sigma(state_.evaluated_steps.back()) - sigma(step);
  if (gap <= 0) return {};
  return {.cond = state_.cond_lag / gap, .null = state_.null_lag / gap};
}

double StepSkipper::estimate_evaluations(int step) const {
  const auto num_left = static_cast<double>(num_steps() - step);
  if (!needs_norms()) {
    double num = 0;
    for (int later = step; later < num_steps(); ++later) num += skips(later) ? 0 : 1;
    return num;
  }
  const auto num_evaluated = static_cast<double>(state_.evaluated_steps.size());
  const double way = place(step) - places_.front();
  if (way <= 0) return num_left;
  const double way_left = places_.back() - places_.front() - way;
  return std::min(num_evaluated * way_left / way, num_left);
}

void StepSkipper::note_skip(int step, double cfg) {
  if (config_.rule == SkipRule::kLine) state_.line_error = static_cast<float>(error_at(step));
  const double lag =
      (sigma(step) - sigma(step + 1)) * (sigma(state_.evaluated_steps.back()) - sigma(step));
  state_.cond_lag += static_cast<float>(cfg * lag);
  state_.null_lag += static_cast<float>((1 - cfg) * lag);
}

std::optional<double> StepSkipper::estimated_error(int step) const {
  if (!needs_norms()) return std::nullopt;
  const bool is_held = config_.extrapolation == Extrapolation::kHold;
  const double error = is_held ? change_at(step) : line_distance_at(step);
  return std::isfinite(error) ? std::optional(error) : std::nullopt;
}

void StepSkipper::note_evaluation(int step, const VelocityNorms& norms) {
  const std::vector<int>& evaluated = state_.evaluated_steps;
  if (needs_norms() && !evaluated.empty()) {
    state_.change_rate =
        static_cast<float>(norms.change / norms.former / (sigma(evaluated.back()) - sigma(step)));
  }
  if (needs_norms() && evaluated.size() > 1) {
    const double gap = gap_before(step);
    const double rate = norms.line_error / norms.current / (gap * gap);
    const double former = std::isfinite(state_.line_rate) ? state_.line_rate : 0;
    state_.line_rate = static_cast<float>(std::max(rate, former / 2));
  }
  state_.line_error = state_.cond_lag = state_.null_lag = 0;
  state_.evaluated_steps.push_back(step);
}

std::set<int> spread_evaluations(const std::vector<double>& sigmas, int count,
                                 const std::set<int>& always) {
  constexpr int kNumHalvings = 50;
  const std::vector<double> places = measure_places(sigmas);
  double low = 0;
  double high = places[places.size() - 2] - places.front();
  for (int i = 0; i < kNumHalvings; ++i) {
    const double middle = (low + high) / 2;
    (std::ssize(jump(places, always, middle)) <= count ? high : low) = middle;
  }
  return jump(places, always, high);
}

}  // namespace mochi
