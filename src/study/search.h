// The order in which a search tries configurations. It is a pure function: evaluations come from
// the caller, and decisions depend on their PSNR only, never on times, which differ from run to
// run. So a search that is repeated with some evaluations known takes the same path.
#pragma once

#include <functional>
#include <vector>

#include "study/search_space.h"
#include "study/trial.h"

namespace mochi::study {

// The candidates that may be good enough and of use.
class OpenCandidates {
 public:
  explicit OpenCandidates(std::vector<Candidate> candidates) : open_(std::move(candidates)) {}

  bool is_empty() const { return open_.empty(); }

  // Returns the candidate that settles most others whichever way it ends, and the cheapest of
  // several. There is one.
  const Candidate& choose() const;

  // A good trial settles all that cost as much or more; a bad one, all that are as sparse or more.
  void settle(const Candidate& tried, bool is_good);

 private:
  std::vector<Candidate> open_;  // by rising cost
};

// Decides from the first prompts whether the others are worth the time. Prompts differ, so those of
// a trial are compared with the same prompts of the yardstick, a complete trial.
class Screen {
 public:
  Screen(const Trial& yardstick, double min_psnr) : yardstick_(yardstick), min_psnr_(min_psnr) {}

  // Returns whether the mean over all prompts is likely to end well below the goal.
  bool is_hopeless(const Trial& trial) const;

 private:
  const Trial& yardstick_;
  double min_psnr_;
};

// Evaluates a configuration on one prompt.
using EvaluateFn = std::function<Evaluation(const SparsityConfig& config, std::size_t prompt_idx)>;
// Called when a trial has ended.
using TrialFn = std::function<void(const Trial& trial)>;

// Tries the start, the start with other deltas, and then, with the delta of the highest PSNR, the
// candidates, until the cheapest good one is known or max_trials (1 or more) are through. Returns
// the trials in order; no configuration comes twice.
std::vector<Trial> search(const SparsityConfig& start, const Workload& workload, const Goal& goal,
                          int max_trials, const EvaluateFn& evaluate, const TrialFn& on_trial);

}  // namespace mochi::study
