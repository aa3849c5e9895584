#include "study/trial.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace mochi::study {
namespace {

std::vector<std::size_t> list_complete(std::span<const Trial> trials, const Goal& goal) {
  std::vector<std::size_t> complete;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (goal.is_complete(trials[i])) complete.push_back(i);
  }
  return complete;
}

}  // namespace

bool Goal::is_good(const Trial& trial) const {
  return is_complete(trial) && mean_psnr(trial) >= min_psnr;
}

double mean_of(std::span<const Evaluation> evaluations, double Evaluation::* member) {
  double sum = 0;
  for (const Evaluation& evaluation : evaluations) sum += evaluation.*member;
  return sum / static_cast<double>(evaluations.size());
}

double mean_seconds(const Trial& trial) { return mean_of(trial.evaluations, &Evaluation::seconds); }

double mean_psnr(const Trial& trial) { return mean_of(trial.evaluations, &Evaluation::psnr); }

std::size_t worst_prompt(const Trial& trial) {
  const auto worst = std::ranges::min_element(trial.evaluations, {}, &Evaluation::psnr);
  return static_cast<std::size_t>(worst - trial.evaluations.begin());
}

double speed_up(const Trial& trial, std::span<const double> dense_seconds) {
  const auto dense = dense_seconds.first(trial.evaluations.size());
  const double mean = std::reduce(dense.begin(), dense.end()) / static_cast<double>(dense.size());
  return mean / mean_seconds(trial);
}

std::optional<std::size_t> find_fastest(std::span<const Trial> trials, const Goal& goal) {
  std::optional<std::size_t> fastest;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (!goal.is_good(trials[i])) continue;
    if (!fastest || mean_seconds(trials[i]) < mean_seconds(trials[*fastest])) fastest = i;
  }
  return fastest;
}

std::size_t find_best(std::span<const Trial> trials, const Goal& goal) {
  const std::vector<std::size_t> complete = list_complete(trials, goal);
  return *std::ranges::max_element(complete, {},
                                   [&](std::size_t i) { return mean_psnr(trials[i]); });
}

std::vector<std::size_t> find_pareto_front(std::span<const Trial> trials, const Goal& goal) {
  const auto place_of = [&](std::size_t i) {
    return std::pair(mean_seconds(trials[i]), -mean_psnr(trials[i]));
  };
  std::vector<std::size_t> order = list_complete(trials, goal);
  std::ranges::stable_sort(order, {}, place_of);
  std::vector<std::size_t> front;
  for (const std::size_t i : order) {
    // Earlier trials are at least as fast. No trial beats this one if it is closer to dense than
    // all of them, or equal to the last one in both.
    if (front.empty() || mean_psnr(trials[i]) > mean_psnr(trials[front.back()]) ||
        place_of(i) == place_of(front.back())) {
      front.push_back(i);
    }
  }
  return front;
}

}  // namespace mochi::study
