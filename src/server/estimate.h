// How long a video will take, judged by those that were made before on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace mochi::server {

// The size of a sampling, and the way in which it is made faster.
struct Workload {
  std::int64_t num_latents = 0;  // elements of one channel: latent frames × rows × columns
  int num_steps = 0;
  int num_branches = 2;  // forward passes of the transformer per evaluated step
  std::string method;    // "exact", "skip careful", "skip fast + sparse", ...
};

// Measured times of a finished video.
struct Timing {
  Workload workload;
  int num_evaluated = 0;  // steps that evaluated the transformer
  double sampling_seconds = 0;
  double other_seconds = 0;  // loading, text and decoding
};

struct Estimate {
  double seconds = 0;
  bool is_measured = false;  // a video of this size and method was made; else scaled from others
};

// `timings` has the latest first. Returns nothing if none of them allows a guess.
std::optional<Estimate> estimate_seconds(const Workload& wanted, std::span<const Timing> timings);

}  // namespace mochi::server
