// The search of `mochi tune`: which configuration is tried next. Pure: evaluations come from the
// caller, and what it decides depends on their PSNR alone, never on times, which differ from run to
// run. So a search that begins anew with some evaluations known goes the same way.
#pragma once

#include <functional>
#include <vector>

#include "study/search_space.h"
#include "study/trial.h"

namespace mochi::study {

// The candidates of which it is not known whether they are good enough, or that would be no use.
class OpenCandidates {
 public:
  explicit OpenCandidates(std::vector<Candidate> candidates) : open_(std::move(candidates)) {}

  bool is_empty() const { return open_.empty(); }

  // The one that settles most others whichever way it ends; of several, the cheapest. There is one.
  const Candidate& choose() const;

  // A good trial settles all that cost as much or more; a bad one, all that are as sparse or more.
  void settle(const Candidate& tried, bool is_good);

 private:
  std::vector<Candidate> open_;  // by rising cost
};

// The first prompts decide whether the others are worth while. Prompts differ, so a trial's prompts
// are seen beside the same prompts of the yardstick, a complete trial.
class Screen {
 public:
  Screen(const Trial& yardstick, double min_psnr) : yardstick_(yardstick), min_psnr_(min_psnr) {}

  // Whether the mean over all prompts is likely to end well below the goal.
  bool is_hopeless(const Trial& trial) const;

 private:
  const Trial& yardstick_;
  double min_psnr_;
};

// Of a configuration and the index of a prompt.
using EvaluateFn = std::function<Evaluation(const SparsityConfig& config, std::size_t prompt_idx)>;
// A trial has ended.
using TrialFn = std::function<void(const Trial& trial)>;

// Tries the start, the start with other deltas, and then, with the delta of the highest PSNR, the
// candidates, until the cheapest good one is known or max_trials (1 or more) are through. Returns
// the trials in order; no configuration comes twice.
std::vector<Trial> search(const SparsityConfig& start, const Workload& workload, const Goal& goal,
                          int max_trials, const EvaluateFn& evaluate, const TrialFn& on_trial);

}  // namespace mochi::study
