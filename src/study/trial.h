// The results of one configuration: pure data and arithmetic.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi::study {

// Equal videos count as this, so that a mean of several prompts still tells them apart.
inline constexpr double kMaxPsnr = 100;

// The video of one prompt compared with the dense one.
struct Evaluation {
  double seconds = 0;         // sampling time
  double psnr = 0;            // dB, of all bytes of the video, at most kMaxPsnr
  double ssim = 0;            // mean over the frames
  double relative_error = 0;  // error of the latents
  int num_evaluated = 0;      // steps that evaluated the transformer
  // Medians over the evaluated steps of sparse attention; 0 if there are none.
  double full_step_seconds = 0, sparse_step_seconds = 0;
};

struct Trial {
  SparsityConfig config;
  std::vector<Evaluation> evaluations;  // for the first prompts; fewer if it was abandoned
};

// The wanted quality.
struct Goal {
  double min_psnr = 0;          // dB, of the mean over all prompts
  std::size_t num_prompts = 1;  // 1 or more

  bool is_complete(const Trial& trial) const { return trial.evaluations.size() == num_prompts; }
  bool is_good(const Trial& trial) const;
};

// There is one evaluation or more.
double mean_of(std::span<const Evaluation> evaluations, double Evaluation::* member);

double mean_seconds(const Trial& trial);
double mean_psnr(const Trial& trial);

// Returns the index of the prompt with the lowest PSNR; there is one.
std::size_t worst_prompt(const Trial& trial);

// Returns dense seconds divided by the trial's, for the prompts of the trial. `dense_seconds` has a
// value for each prompt.
double speed_up(const Trial& trial, std::span<const double> dense_seconds);

// Returns the good trial with the fewest seconds; nothing if none is good.
std::optional<std::size_t> find_fastest(std::span<const Trial> trials, const Goal& goal);

// Returns the complete trial with the highest PSNR. There is one, since the start is tried on all
// prompts.
std::size_t find_best(std::span<const Trial> trials, const Goal& goal);

// Returns the complete trials that no other one beats in speed or quality without being worse in
// the other; indices, fastest first.
std::vector<std::size_t> find_pareto_front(std::span<const Trial> trials, const Goal& goal);

}  // namespace mochi::study
