#include "cli/tune/trial.h"

#include <algorithm>
#include <numeric>

namespace mochi::cli {
namespace {

std::vector<std::size_t> list_complete(std::span<const Trial> trials, std::size_t num_prompts) {
  std::vector<std::size_t> complete;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (trials[i].is_complete(num_prompts)) complete.push_back(i);
  }
  return complete;
}

double mean_seconds(const Trial& trial) { return mean_of(trial.evaluations, &Evaluation::seconds); }

}  // namespace

double mean_of(std::span<const Evaluation> evaluations, double Evaluation::* member) {
  double sum = 0;
  for (const Evaluation& evaluation : evaluations) sum += evaluation.*member;
  return sum / static_cast<double>(evaluations.size());
}

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

std::optional<std::size_t> find_fastest(std::span<const Trial> trials, std::size_t num_prompts,
                                        double min_psnr) {
  std::optional<std::size_t> fastest;
  for (const std::size_t i : list_complete(trials, num_prompts)) {
    if (mean_psnr(trials[i]) < min_psnr) continue;
    if (!fastest || mean_seconds(trials[i]) < mean_seconds(trials[*fastest])) fastest = i;
  }
  return fastest;
}

std::optional<std::size_t> find_best(std::span<const Trial> trials, std::size_t num_prompts) {
  const std::vector<std::size_t> complete = list_complete(trials, num_prompts);
  if (complete.empty()) return std::nullopt;
  return *std::ranges::max_element(complete, {},
                                   [&](std::size_t i) { return mean_psnr(trials[i]); });
}

std::vector<std::size_t> find_pareto_front(std::span<const Trial> trials, std::size_t num_prompts) {
  std::vector<std::size_t> order = list_complete(trials, num_prompts);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    const double seconds_a = mean_seconds(trials[a]);
    const double seconds_b = mean_seconds(trials[b]);
    return seconds_a != seconds_b ? seconds_a < seconds_b
                                  : mean_psnr(trials[a]) > mean_psnr(trials[b]);
  });
  std::vector<std::size_t> front;
  for (const std::size_t i : order) {
    const bool is_equal = !front.empty() &&
                          mean_seconds(trials[i]) == mean_seconds(trials[front.back()]) &&
                          mean_psnr(trials[i]) == mean_psnr(trials[front.back()]);
    if (front.empty() || is_equal || mean_psnr(trials[i]) > mean_psnr(trials[front.back()])) {
      front.push_back(i);
    }
  }
  return front;
}

}  // namespace mochi::cli
