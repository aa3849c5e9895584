#include "job/job_options.h"

#include <string_view>
#include <utility>

namespace mochi::job {
namespace {

EngineOptions overlay_engine(EngineOptions lower, const EngineOptions& upper) {
  const EngineOptions defaults;
  if (!upper.model_dir.empty()) {
    lower.model_dir = upper.model_dir;
    lower.paths = {};  // those that replaced networks of the other folder
  }
  visit_paths(upper.paths, [&lower](std::string_view field, const std::filesystem::path& given) {
    if (given.empty()) return;
    visit_paths(lower.paths, [&](std::string_view other, std::filesystem::path& path) {
      if (other == field) path = given;
    });
  });
  if (!upper.loras.empty()) lower.loras = upper.loras;
  if (upper.device != defaults.device) lower.device = upper.device;
  if (upper.precision != defaults.precision) lower.precision = upper.precision;
  if (upper.weights) lower.weights = upper.weights;
  if (upper.compute) lower.compute = upper.compute;
  if (upper.random_weights != defaults.random_weights) lower.random_weights = upper.random_weights;
  // Settings of this machine, which no recipe has.
  lower.num_threads = upper.num_threads;
  lower.cpu_offload = upper.cpu_offload;
  lower.vram_limit_bytes = upper.vram_limit_bytes;
  return lower;
}

}  // namespace

JobOptions overlay(JobOptions lower, const JobOptions& upper) {
  const auto put = [](auto& under, const auto& over) {
    if (over) under = over;
  };
  lower.request = overlay(std::move(lower.request), upper.request);
  put(lower.latents_file, upper.latents_file);
  put(lower.output, upper.output);
  put(lower.out_dir, upper.out_dir);
  put(lower.save_latents, upper.save_latents);
  put(lower.checkpoint_every, upper.checkpoint_every);
  lower.checks_finite = lower.checks_finite || upper.checks_finite;
  lower.engine = overlay_engine(std::move(lower.engine), upper.engine);
  return lower;
}

}  // namespace mochi::job
