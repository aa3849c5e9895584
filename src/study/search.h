// The order in which a search tries configurations. It is a pure function of what the caller
// measures: the seconds of a dense step, those of the start's steps, and PSNR. All of these are
// recorded, so a search that is resumed with some evaluations known takes the same path.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "study/cost_model.h"
#include "study/search_space.h"
#include "study/trial.h"

namespace mochi::study {

struct SearchTask {
  SparsityConfig start;
  Workload workload;
  Goal goal;
  SearchScope scope = SearchScope::kBoth;
  int max_trials = 1;                      // 1 or more
  std::vector<double> dense_step_seconds;  // median step of each dense video
};

struct Candidate {
  Place place;
  double seconds = 0;  // predicted
};

// Returns the candidates by rising predicted seconds: dense attention at some of the steps.
std::vector<Candidate> list_skipping_candidates(const CostModel& costs, const Workload& workload);
// Sparse attention that is expected to be faster than dense attention at as many steps.
std::vector<Candidate> list_sparse_candidates(const CostModel& costs, const Workload& workload,
                                              bool skips_steps);

// The candidates that may be good enough and of use.
class OpenCandidates {
 public:
  explicit OpenCandidates(std::vector<Candidate> candidates) : open_(std::move(candidates)) {}

  bool is_empty() const { return open_.empty(); }

  // Returns the candidate that settles most others whichever way it ends, and the fastest of
  // several. There is one.
  const Candidate& choose() const;

  // A good trial settles all that are not predicted to be faster by 3 %; a bad one, all that are as
  // sparse or sparser.
  void settle(const Candidate& tried, bool is_good);

 private:
  std::vector<Candidate> open_;  // by rising seconds
};

// Decides from the first prompts whether the others are worth the time. Prompts differ, so those of
// a trial are compared with the same prompts of the yardstick, a complete trial.
class Screen {
 public:
  Screen(Trial yardstick, double min_psnr)
      : yardstick_(std::move(yardstick)), min_psnr_(min_psnr) {}

  // Returns whether the mean over all prompts is likely to end well below the goal.
  bool is_hopeless(const Trial& trial) const;

 private:
  Trial yardstick_;
  double min_psnr_;
};

// Evaluates a configuration on one prompt.
using EvaluateFn = std::function<Evaluation(const SparsityConfig& config, std::size_t prompt_idx)>;
// Called when a trial has ended.
using TrialFn = std::function<void(const Trial& trial)>;

// Tries the start at every step, then dense attention at some of the steps. If sparse attention may
// still be faster, tries the start with other deltas, and then candidates with the delta of the
// highest PSNR. Ends when no other good one can be faster by 3 %, as predicted, or when max_trials
// are through. Returns the trials in order; no configuration comes twice. The start of a search for
// skipping alone is not tried.
std::vector<Trial> search(const SearchTask& task, const EvaluateFn& evaluate,
                          const TrialFn& on_trial);

}  // namespace mochi::study
