#include "pipeline/request.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "base/utf8.h"
#include "pipeline/sigma_schedule.h"
#include "sparsity/schedule.h"

namespace mochi {
namespace {

constexpr int kMaxPixels = 1 << 14;  // per side
constexpr int kMaxFrames = 1 << 16;
constexpr int kMaxSteps = 10'000;

// Checks that value = offset + k·unit within [offset (or unit), max].
void check_multiple(const char* field, int value, int unit, int offset, int max) {
  const int least = offset > 0 ? offset : unit;
  if (value >= least && value <= max && (value - offset) % unit == 0) return;
  const std::string rule =
      offset > 0 ? fmt::format("{}·k + {}", unit, offset) : fmt::format("a multiple of {}", unit);
  if (value < least || value > max) {
    refuse(field, "wanted {} from {} to {}, found {}", rule, least,
           (max - offset) / unit * unit + offset, value);
  }
  const int below = (value - offset) / unit * unit + offset;
  const int above = below + unit;
  if (below < least) refuse(field, "wanted {}, found {}; the nearest is {}", rule, value, above);
  refuse(field, "wanted {}, found {}; the nearest are {} and {}", rule, value, below, above);
}

void check_guidance(const char* field, double cfg) {
  if (!std::isfinite(cfg)) refuse(field, "wanted a finite number, found {}", cfg);
}

}  // namespace

Shape shape_of(const Latents& latents) {
  return {latents.channels, latents.num_frames, latents.height, latents.width};
}

GenerateRequest make_default_request(const GenerationDefaults& defaults) {
  GenerateRequest request;
  request.prompt = defaults.prompt;
  request.negative_prompt = defaults.negative_prompt;
  request.width = defaults.width;
  request.height = defaults.height;
  request.num_frames = defaults.num_frames;
  request.num_steps = defaults.num_steps;
  request.cfg_scale = defaults.cfg_scale;
  request.threshold_noise = defaults.threshold_noise;
  // "Half of the steps" stays true when the caller changes num_steps.
  const bool is_half = defaults.linear_steps == defaults.num_steps / 2;
  request.linear_steps = is_half ? 0 : defaults.linear_steps;
  return request;
}

Latents size_latents(const ModelConfig& config, const VideoSize& size) {
  const auto compression = static_cast<int>(config.vae.spatial_compression());
  const int unit = compression * static_cast<int>(config.dit.patch_size);
  const auto frames_unit = static_cast<int>(config.vae.temporal_compression());
  check_multiple("width", size.width, unit, 0, kMaxPixels);
  check_multiple("height", size.height, unit, 0, kMaxPixels);
  check_multiple("num_frames", size.num_frames, frames_unit, 1, kMaxFrames);
  return {.values = {},
          .channels = config.vae.latent_channels,
          .num_frames = (size.num_frames - 1) / frames_unit + 1,
          .height = size.height / compression,
          .width = size.width / compression};
}

VideoSize size_video(const ModelConfig& config, const Latents& latents) {
  const std::int64_t compression = config.vae.spatial_compression();
  const std::int64_t max_frames = (kMaxFrames - 1) / config.vae.temporal_compression() + 1;
  const std::int64_t max_side = kMaxPixels / compression;
  const auto fits = [](std::int64_t size, std::int64_t max) { return size >= 1 && size <= max; };
  if (latents.channels != config.vae.latent_channels || !fits(latents.num_frames, max_frames) ||
      !fits(latents.height, max_side) || !fits(latents.width, max_side)) {
    refuse("latents", "wanted [{}, 1 to {}, 1 to {}, 1 to {}], found [{}, {}, {}, {}]",
           config.vae.latent_channels, max_frames, max_side, max_side, latents.channels,
           latents.num_frames, latents.height, latents.width);
  }
  return {.width = static_cast<int>(latents.width * compression),
          .height = static_cast<int>(latents.height * compression),
          .num_frames = static_cast<int>(config.vae.num_frames(latents.num_frames))};
}

StepPlan make_step_plan(const GenerateRequest& request) {
  if (request.num_steps < 1 || request.num_steps > kMaxSteps) {
    refuse("num_steps", "wanted 1 to {}, found {}", kMaxSteps, request.num_steps);
  }
  const auto num_steps = static_cast<std::size_t>(request.num_steps);
  StepPlan plan;
  plan.sigmas =
      linear_quadratic_schedule(request.num_steps, request.threshold_noise, request.linear_steps);
  plan.cfgs = request.cfg_schedule;
  if (plan.cfgs.empty()) {
    check_guidance("cfg_scale", request.cfg_scale);
    plan.cfgs.assign(num_steps, request.cfg_scale);
  }
  if (plan.cfgs.size() != num_steps) {
    refuse("cfg_schedule", "wanted {} values, one for each step, found {}", num_steps,
           plan.cfgs.size());
  }
  for (const double cfg : plan.cfgs) check_guidance("cfg_schedule", cfg);
  return plan;
}

GenerateRequest fit_schedules(GenerateRequest request) {
  if (!request.sparsity || !request.sparsity->steps) return request;
  const std::vector<double> meant =
      linear_quadratic_schedule(*request.sparsity->steps, request.threshold_noise, 0);
  request.sparsity = fit_schedules(*request.sparsity, meant, make_step_plan(request).sigmas);
  return request;
}

std::vector<double> noise_levels(const GenerateRequest& request) {
  return make_step_plan(request).sigmas;
}

void check_values(const char* field, const Latents& size, std::span<const float> values) {
  const Shape shape = shape_of(size);
  if (std::ssize(values) != shape.num_elements()) {
    refuse(field, "wanted {} values for {}, found {}", shape.num_elements(), shape.to_string(),
           values.size());
  }
  const auto at = std::ranges::find_if_not(values, [](float x) { return std::isfinite(x); });
  if (at != values.end()) {
    refuse(field, "wanted finite values, found {} at index {}", *at, at - values.begin());
  }
}

void check_text(const char* field, const std::string& text) {
  if (const auto invalid = find_invalid_utf8(text)) {
    refuse(field, "not valid UTF-8 at byte {}", *invalid);
  }
}

void check_request(const ModelConfig& config, const GenerateRequest& request) {
  check_text("prompt", request.prompt);
  check_text("negative_prompt", request.negative_prompt);
  const Latents size = size_latents(config, {request.width, request.height, request.num_frames});
  make_step_plan(request);
  check_choice("noise_source", request.noise_source, kNoiseSources);
  if (!request.initial_noise.empty()) check_values("initial_noise", size, request.initial_noise);
  if (request.sparsity) validate(*request.sparsity);
}

}  // namespace mochi
