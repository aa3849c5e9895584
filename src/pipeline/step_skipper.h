// Decides which sampling steps evaluate the transformer and which follow a velocity predicted from
// earlier evaluations. Arithmetic on a few norms; the tensors are those of VelocityHistory.
#pragma once

#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi {

// L2 norms that an evaluation is judged by, of guided velocities.
struct VelocityNorms {
  double former = 0;      // the velocity of the evaluation before
  double change = 0;      // the difference between the two
  double current = 0;     // the velocity of this evaluation
  double line_error = 0;  // its difference from the line through the two evaluations before
};

// By how much the latents move for each unit that a branch's velocity has changed between two
// evaluations.
struct CorrectionWeights {
  double cond = 0, null = 0;
};

class StepSkipper {
 public:
  // Later decisions depend on this alone. Floats, because checkpoints hold them exactly.
  struct State {
    std::vector<int> evaluated_steps;  // ascending
    float line_error = 0;              // sum of the rule line since the last evaluation
    // Relative change of the velocity for a unit of the noise level, and its relative distance from
    // the line for the square of a unit of place. Infinite: unknown.
    float change_rate = std::numeric_limits<float>::infinity();
    float line_rate = std::numeric_limits<float>::infinity();
    // Sums over the skipped steps since the last evaluation of step length · weight of the branch ·
    // distance from the evaluation.
    float cond_lag = 0, null_lag = 0;
  };

  // `sigmas` are the num_steps + 1 noise levels. Steps of `always` are evaluated in any case.
  StepSkipper(StepSkipping config, std::vector<double> sigmas, std::set<int> always);

  bool skips(int step) const;
  // Returns true if an evaluated step also evaluates the unconditional branch.
  bool evaluates_null(int step) const;
  // Returns true if note_evaluation() needs norms.
  bool needs_norms() const;
  // The weight f of the line's slope: the velocity at `step` is predicted as v₀ + f·(v₀ − v₁) from
  // the last two evaluations. 0 holds the last one.
  double slope_weight(int step) const;
  // The weight of the line that VelocityNorms::line_error compares with, whatever is extrapolated.
  double line_weight(int step) const;
  // Returns the correction that an evaluation of `step`, not yet noted, makes; zeros if there is
  // nothing to correct.
  CorrectionWeights correction_weights(int step) const;

  // Estimates how many of the steps from `step` on will be evaluated.
  double estimate_evaluations(int step) const;

  // `cfg` is the step's guidance.
  void note_skip(int step, double cfg);
  // `norms` is read if needs_norms().
  void note_evaluation(int step, const VelocityNorms& norms);

  // Estimates the relative error of the velocity that is predicted for `step`: its change since the
  // last evaluation if it is held, its distance from the line if that is followed. Nothing for
  // rules that compare no evaluations.
  std::optional<double> estimated_error(int step) const;

  const std::vector<int>& evaluated_steps() const { return state_.evaluated_steps; }
  const State& state() const { return state_; }
  bool has_step(int step) const { return step >= 0 && step < num_steps(); }
  void restore(State state) { state_ = std::move(state); }

 private:
  int num_steps() const { return static_cast<int>(sigmas_.size()) - 1; }
  double sigma(int step) const { return sigmas_[static_cast<std::size_t>(step)]; }
  double place(int step) const { return places_[static_cast<std::size_t>(step)]; }
  bool is_always_evaluated(int step) const;
  // Distance of `step` from the last evaluation, in places.
  double gap_before(int step) const;
  // Estimates at `step`: the relative change since the last evaluation, and the relative distance
  // from the line through the last two.
  double change_at(int step) const;
  double line_distance_at(int step) const;
  // The rule's error if `step` is skipped, too.
  double error_at(int step) const;

  StepSkipping config_;
  std::vector<double> sigmas_;
  std::set<int> always_;
  std::set<int> chosen_;        // steps that the rules schedule and budget evaluate
  std::vector<double> places_;  // where each step lies; evaluations are about evenly spaced
  State state_;
};

// Chooses at most `count` of the steps so that the widest gap is small, in the logarithm of the
// signal-to-noise ratio. Steps of `always`, the first and the last one are among them, even if that
// makes more.
std::set<int> spread_evaluations(const std::vector<double>& sigmas, int count,
                                 const std::set<int>& always);

}  // namespace mochi
