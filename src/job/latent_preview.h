// Previews of a running sampling: the clean latents that its last step points to, as a small
// picture that a LatentMap draws. No decoder runs.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "job/latent_map.h"

namespace mochi::job {

// Returns the clean value that the straight line through two latents ends at, of which a step from
// one noise level to the next, lower one made the second from the first.
float extrapolate_to_clean(float before, float after, double level_before, double level_after);

struct LatentPreview {
  int step = 0;               // number of complete steps
  int width = 0, height = 0;  // one latent frame's, in pixels of the picture
  int num_frames = 0;         // evenly spaced latent frames, at most 16
  int columns = 0;            // frames per row of the picture
  std::string jpeg;
};

// Makes previews from an observer's on_step(): at most two per second, and so rarely that they take
// at most 1 % of the time.
class PreviewMaker {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;

  // `noise_levels` are those of the request.
  PreviewMaker(LatentMap map, std::vector<double> noise_levels,
               Clock clock = &std::chrono::steady_clock::now);

  // Returns nothing if no preview is due, or none can be made after this step: one needs the
  // latents before and after a step that followed the velocity alone.
  std::optional<LatentPreview> on_step(const StepView& view);

 private:
  // The latents of the frames that a preview shows.
  struct Shown {
    int num_done = -1;
    std::vector<float> values;  // [frames, channels, height, width]
  };

  static Shown copy_shown(const StepView& view);
  // Returns nothing if the step cannot be previewed.
  std::optional<LatentPreview> look(const StepView& view);
  LatentPreview draw(const Shown& shown, const Latents& size) const;

  LatentMap map_;
  std::vector<double> noise_levels_;
  Clock clock_;
  Shown last_;                                  // after the last step that was looked at
  std::chrono::steady_clock::duration cost_{};  // all looks' since the last preview
  std::optional<std::chrono::steady_clock::time_point> next_;  // when the next one is due
};

}  // namespace mochi::job
