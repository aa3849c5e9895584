#include "study/search.h"

#include <algorithm>
#include <optional>

namespace mochi::study {
namespace {

// A trial is abandoned if its first prompts indicate more than this below the goal.
constexpr double kScreenMargin = 2;  // dB

double mean_of_first(const Trial& trial, std::size_t count) {
  return mean_of(std::span(trial.evaluations).first(count), &Evaluation::psnr);
}

// Evaluates all prompts, or, with a screen, prompts until the trial is hopeless.
Trial try_out(const SparsityConfig& config, std::size_t num_prompts, const Screen* screen,
              const EvaluateFn& evaluate) {
  Trial trial{config, {}};
  for (std::size_t i = 0; i < num_prompts; ++i) {
    trial.evaluations.push_back(evaluate(config, i));
    if (screen != nullptr && screen->is_hopeless(trial)) break;
  }
  return trial;
}

// Compares the starts on the prompts that all of them have. Returns the first of equals.
Trial find_best_start(const std::vector<Trial>& starts) {
  std::size_t count = starts.front().evaluations.size();
  for (const Trial& trial : starts) count = std::min(count, trial.evaluations.size());
  return *std::ranges::max_element(
      starts, {}, [count](const Trial& trial) { return mean_of_first(trial, count); });
}

}  // namespace

const Candidate& OpenCandidates::choose() const {
  const Candidate* chosen = &open_.front();
  std::ptrdiff_t most = 0;
  for (const Candidate& candidate : open_) {
    const auto num_if_good = std::ranges::count_if(
        open_, [&](const Candidate& other) { return other.cost >= candidate.cost; });
    const auto num_if_bad = std::ranges::count_if(
        open_, [&](const Candidate& other) { return is_as_sparse(other.place, candidate.place); });
    const std::ptrdiff_t num_settled = std::min(num_if_good, num_if_bad);
    if (num_settled <= most) continue;
    most = num_settled;
    chosen = &candidate;
  }
  return *chosen;
}

void OpenCandidates::settle(const Candidate& tried, bool is_good) {
  std::erase_if(open_, [&](const Candidate& other) {
    return is_good ? other.cost >= tried.cost : is_as_sparse(other.place, tried.place);
  });
}

bool Screen::is_hopeless(const Trial& trial) const {
  const std::size_t count = trial.evaluations.size();
  const double left_out = mean_psnr(yardstick_) - mean_of_first(yardstick_, count);
  return mean_psnr(trial) + left_out < min_psnr_ - kScreenMargin;
}

std::vector<Trial> search(const SparsityConfig& start, const Workload& workload, const Goal& goal,
                          int max_trials, const EvaluateFn& evaluate, const TrialFn& on_trial) {
  std::vector<Trial> trials;
  const auto has_budget = [&] { return std::ssize(trials) < max_trials; };
  std::optional<Screen> screen;  // by the first trial
  const auto run = [&](const SparsityConfig& config) {
    trials.push_back(try_out(config, goal.num_prompts, screen ? &*screen : nullptr, evaluate));
    on_trial(trials.back());
  };
  const std::vector<SparsityConfig> starts = list_starts(start);
  run(starts.front());
  const Trial yardstick = trials.front();
  screen.emplace(yardstick, goal.min_psnr);
  for (std::size_t i = 1; i < starts.size() && has_budget(); ++i) run(starts[i]);

  const Trial best = find_best_start(trials);
  OpenCandidates open(list_candidates(start, best.config.attn.delta, workload));
  if (has_place(best.config)) {
    open.settle(make_candidate(best.config, workload), goal.is_good(best));
  }
  while (!open.is_empty() && has_budget()) {
    const Candidate next = open.choose();
    run(next.config);
    open.settle(next, goal.is_good(trials.back()));
  }
  return trials;
}

}  // namespace mochi::study
