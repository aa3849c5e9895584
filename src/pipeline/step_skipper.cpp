#include "pipeline/step_skipper.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mochi {
namespace {

constexpr double kLargestSlopeWeight = 3;  // extrapolation over longer gaps is not trusted

double default_threshold(SkipRule rule) { return rule == SkipRule::kLine ? 1e-3 : 0.1; }

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

double StepSkipper::error_at(int step) const {
  const double moved = sigma(step - 1) - sigma(step);
  if (config_.rule == SkipRule::kEasy) return state_.error + state_.rate * moved;
  const double gap = sigma(state_.evaluated_steps.back()) - sigma(step);
  return state_.error + state_.rate * gap * gap * moved;
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
  const double last = sigma(evaluated.back());
  const double gap = sigma(evaluated[evaluated.size() - 2]) - last;
  return gap > 0 ? std::min((last - sigma(step)) / gap, kLargestSlopeWeight) : 0;
}

double StepSkipper::slope_weight(int step) const {
  return config_.extrapolation == Extrapolation::kLine ? line_weight(step) : 0;
}

double StepSkipper::estimate_evaluations(int step) const {
  const auto num_left = static_cast<double>(num_steps() - step);
  if (!needs_norms()) {
    double num = 0;
    for (int later = step; later < num_steps(); ++later) num += skips(later) ? 0 : 1;
    return num;
  }
  const auto num_evaluated = static_cast<double>(state_.evaluated_steps.size());
  const double way = places_[static_cast<std::size_t>(step)] - places_.front();
  if (way <= 0) return num_left;
  const double way_left = places_.back() - places_.front() - way;
  return std::min(num_evaluated * way_left / way, num_left);
}

void StepSkipper::note_skip(int step) {
  if (needs_norms()) state_.error = static_cast<float>(error_at(step));
}

std::optional<double> StepSkipper::estimated_error() const {
  return needs_norms() ? std::optional<double>(state_.error) : std::nullopt;
}

void StepSkipper::note_evaluation(int step, const VelocityNorms& norms) {
  const std::vector<int>& evaluated = state_.evaluated_steps;
  if (needs_norms() && !evaluated.empty()) {
    const double gap = sigma(evaluated.back()) - sigma(step);
    if (config_.rule == SkipRule::kEasy) {
      state_.rate = static_cast<float>(norms.change / norms.former / gap);
    } else if (evaluated.size() > 1) {
      const double rate = norms.line_error / norms.current / (gap * gap);
      const double former = std::isfinite(state_.rate) ? state_.rate : 0;
      state_.rate = static_cast<float>(std::max(rate, former / 2));
    }
  }
  state_.error = 0;
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
