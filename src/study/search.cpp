#include "study/search.h"

#include <algorithm>
#include <optional>

namespace mochi::study {
namespace {

// A trial is abandoned if its first prompts indicate more than this below the goal.
constexpr double kScreenMargin = 2;  // dB

// A candidate that is predicted to take more than this part of a good trial's time is not worth a
// trial: times cannot be predicted more exactly.
constexpr double kWorthwhile = 0.97;

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

std::vector<Candidate> rank(const std::vector<Place>& places, const CostModel& costs) {
  std::vector<Candidate> candidates;
  candidates.reserve(places.size());
  for (const Place& place : places) candidates.push_back({place, costs.predict(place)});
  std::ranges::stable_sort(candidates, {}, &Candidate::seconds);
  return candidates;
}

// One run of search().
class Search {
 public:
  Search(const SearchTask& task, const EvaluateFn& evaluate, const TrialFn& on_trial)
      : task_(task), evaluate_(evaluate), on_trial_(on_trial) {}

  std::vector<Trial> run() {
    const CostModel costs = begin();
    // If the start is not good enough, it may be so with another delta.
    if (!trials_.empty() && task_.goal.is_good(trials_.front())) {
      settle_start(trials_.front(), costs);
    }
    explore(skipping_, task_.start);
    if (sparse_.is_empty() || !has_budget()) return std::move(trials_);
    const Trial best = try_deltas();
    settle_start(best, costs);
    explore(sparse_, best.config);
    return std::move(trials_);
  }

 private:
  bool has_budget() const { return std::ssize(trials_) < task_.max_trials; }

  // Measures the start, and lists the candidates by the costs that follow.
  CostModel begin() {
    const bool is_sparse = task_.scope != SearchScope::kSkipping;
    const bool is_skipping = task_.scope != SearchScope::kSparsity;
    if (is_sparse) try_config(task_.start);
    CostModel costs = measure_costs(task_.workload, task_.dense_step_seconds,
                                    is_sparse ? &trials_.front() : nullptr);
    if (is_skipping) skipping_ = OpenCandidates(list_skipping_candidates(costs, task_.workload));
    if (is_sparse) {
      sparse_ = OpenCandidates(list_sparse_candidates(costs, task_.workload, is_skipping));
    }
    return costs;
  }

  void try_config(const SparsityConfig& config) {
    trials_.push_back(
        try_out(config, task_.goal.num_prompts, screen_ ? &*screen_ : nullptr, evaluate_));
    if (!screen_) screen_.emplace(trials_.back(), task_.goal.min_psnr);
    on_trial_(trials_.back());
  }

  // Tries candidates until none is open.
  void explore(OpenCandidates& open, const SparsityConfig& start) {
    while (!open.is_empty() && has_budget()) {
      const Candidate next = open.choose();
      try_config(make_config(start, next.place, task_.workload));
      settle(next, task_.goal.is_good(trials_.back()));
    }
  }

  void settle(const Candidate& tried, bool is_good) {
    skipping_.settle(tried, is_good);
    sparse_.settle(tried, is_good);
  }

  void settle_start(const Trial& start, const CostModel& costs) {
    if (!has_place(start.config)) return;
    const Place place = place_of(start.config, task_.workload);
    settle({place, costs.predict(place)}, task_.goal.is_good(start));
  }

  // Returns the best of the start, which is the first trial, and its copies with other deltas.
  Trial try_deltas() {
    std::vector<Trial> starts{trials_.front()};
    for (const SparsityConfig& config : list_starts(task_.start)) {
      if (config.attn.delta == task_.start.attn.delta) continue;
      if (!has_budget()) break;
      try_config(config);
      starts.push_back(trials_.back());
    }
    return find_best_start(starts);
  }

  const SearchTask& task_;
  const EvaluateFn& evaluate_;
  const TrialFn& on_trial_;
  std::vector<Trial> trials_;
  std::optional<Screen> screen_;  // by the first trial
  OpenCandidates skipping_{{}};   // dense attention
  OpenCandidates sparse_{{}};
};

}  // namespace

std::vector<Candidate> list_skipping_candidates(const CostModel& costs, const Workload& workload) {
  return rank(list_skipping_places(workload), costs);
}

std::vector<Candidate> list_sparse_candidates(const CostModel& costs, const Workload& workload,
                                              bool skips_steps) {
  std::vector<Candidate> candidates = rank(list_sparse_places(workload, skips_steps), costs);
  std::erase_if(candidates, [&](const Candidate& candidate) {
    return candidate.seconds >= costs.predict({candidate.place.num_evaluated});
  });
  return candidates;
}

const Candidate& OpenCandidates::choose() const {
  const Candidate* chosen = &open_.front();
  std::ptrdiff_t most = 0;
  for (const Candidate& candidate : open_) {
    const auto first_if_good =
        std::ranges::upper_bound(open_, kWorthwhile * candidate.seconds, {}, &Candidate::seconds);
    const auto num_if_good = open_.end() - first_if_good;
    if (num_if_good <= most) break;  // nor do any that are slower settle more
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
    return is_good ? other.seconds > kWorthwhile * tried.seconds
                   : is_as_sparse(other.place, tried.place);
  });
}

bool Screen::is_hopeless(const Trial& trial) const {
  const std::size_t count = trial.evaluations.size();
  const double left_out = mean_psnr(yardstick_) - mean_of_first(yardstick_, count);
  return mean_psnr(trial) + left_out < min_psnr_ - kScreenMargin;
}

std::vector<Trial> search(const SearchTask& task, const EvaluateFn& evaluate,
                          const TrialFn& on_trial) {
  return Search(task, evaluate, on_trial).run();
}

}  // namespace mochi::study
