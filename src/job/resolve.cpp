#include "job/resolve.h"

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "job/latents_file.h"

namespace mochi::job {
namespace {

// The engine's names of fields that have other names in requests.
std::string request_field(const std::string& engine_field) {
  return engine_field == "initial_noise" || engine_field == "latents" ? "noise" : engine_field;
}

void apply_fields(const Request& given, GenerateRequest& generate) {
  visit_request(given, [&](const Field& /*field*/, const auto& value, auto target) {
    if constexpr (!std::is_null_pointer_v<decltype(target)>) {
      if (value) generate.*target = *value;
    }
  });
}

void apply_noise(const Latents& noise, const ModelInfo& model, GenerateRequest& generate) {
  const VideoSize size = model.video_size(noise);
  generate.width = size.width;
  generate.height = size.height;
  generate.num_frames = size.num_frames;
  generate.initial_noise = noise.values;
}

// Noise of another shape may have as many values.
void check_noise(const Latents& noise, const ModelInfo& model, const GenerateRequest& generate) {
  const VideoSize found = model.video_size(noise);
  if (found.width == generate.width && found.height == generate.height &&
      found.num_frames == generate.num_frames) {
    return;
  }
  refuse("noise", "wanted noise for {} frames of {}x{}, found noise for {} of {}x{}",
         generate.num_frames, generate.width, generate.height, found.num_frames, found.width,
         found.height);
}

void apply_steps(const Request& given, GenerateRequest& generate) {
  if (given.cfg_schedule && !given.num_steps) {
    generate.num_steps = static_cast<int>(given.cfg_schedule->size());
  }
  // The model's number of linear steps belongs to its own number of steps.
  const bool has_own_steps = given.num_steps || given.cfg_schedule;
  if (has_own_steps && !given.linear_steps) generate.linear_steps = 0;
}

void apply_sparsity(const Request& given, const StopFn& should_stop, Resolved& resolved) {
  GenerateRequest& generate = resolved.generate;
  if (given.chipmunk_config) {
    LoadedSparsity loaded = load_sparsity_config(*given.chipmunk_config, should_stop);
    generate.sparsity = std::move(loaded.config);
    resolved.warnings = std::move(loaded.warnings);
    resolved.ignored_keys = std::move(loaded.ignored_keys);
  }
  if (given.no_sparsity.value_or(false)) generate.sparsity.reset();
}

// Without sparsity the steps are skipped of a sampling that is dense.
SparsityConfig dense_config() {
  SparsityConfig config;
  config.patchify_is_enabled = false;
  config.attn.is_enabled = false;
  return config;
}

void apply_skipping(const Request& given, GenerateRequest& generate) {
  if (!given.skip && !given.max_evaluations) return;
  if (!generate.sparsity) generate.sparsity = dense_config();
  StepSkipping& skipping = generate.sparsity->step_skipping;
  // A configuration that is meant for another number of steps is adapted as a whole.
  const int num_steps = generate.sparsity->steps.value_or(generate.num_steps);
  if (given.skip) skipping = make_step_skipping(*given.skip, num_steps);
  if (given.max_evaluations) skipping = make_step_budget(*given.max_evaluations);
  const bool is_dense = !generate.sparsity->attn.is_enabled && !generate.sparsity->mlp.is_enabled;
  const bool has_steps = skipping.rule != SkipRule::kOff;
  if (is_dense && !has_steps && !generate.sparsity->step_caching.is_enabled) {
    generate.sparsity.reset();
  }
}

// Returns `given` with the values of the engine's request in all other fields.
Request complete(const Request& given, const GenerateRequest& generate) {
  Request request = given;
  visit_request(request, [&](const Field& /*field*/, auto& value, auto target) {
    if constexpr (!std::is_null_pointer_v<decltype(target)>) value = generate.*target;
  });
  if (generate.cfg_schedule.empty()) request.cfg_schedule.reset();
  if (generate.linear_steps == 0) request.linear_steps = generate.num_steps / 2;
  request.chipmunk_config.reset();
  request.no_sparsity.reset();
  request.skip.reset();
  request.max_evaluations.reset();
  return request;
}

void resolve_sampling(const Request& given, const ModelInfo& model, const StopFn& should_stop,
                      Resolved& resolved) {
  Latents noise;
  if (given.noise) noise = read_latents(*given.noise);
  GenerateRequest& generate = resolved.generate;
  generate = model.default_request();
  if (given.noise) apply_noise(noise, model, generate);
  apply_fields(given, generate);
  apply_steps(given, generate);
  apply_sparsity(given, should_stop, resolved);
  apply_skipping(given, generate);
  model.check(generate);
  if (given.noise) check_noise(noise, model, generate);
  model.check_files(generate);
  resolved.overruled = find_overruled(given);
  std::ranges::move(model.warnings(generate), std::back_inserter(resolved.warnings));
  generate = fit_schedules(std::move(generate));
  resolved.request = complete(given, generate);
  resolved.size = {generate.width, generate.height, generate.num_frames};
  resolved.latents = model.latent_size(resolved.size);
}

void resolve_decoding(const std::filesystem::path& file, const ModelInfo& model,
                      Resolved& resolved) {
  resolved.latents = read_latents(file);
  try {
    resolved.size = model.video_size(resolved.latents);
  } catch (const InvalidRequest& error) {
    fail("'{}': {}", file.string(), error.problem());
  }
}

}  // namespace

void throw_located(const InvalidRequest& error, const FieldSource& source) {
  const std::string field = request_field(error.field());
  if (std::ranges::find(source.fields, field) == source.fields.end()) {
    throw InvalidRequest(field, error.problem());
  }
  fail("{}: {}{}: {}", source.name, source.prefix, field, error.problem());
}

Resolved resolve(const JobOptions& options, const ModelInfo& model, const FieldSource& source,
                 const StopFn& should_stop) {
  Resolved resolved;
  if (options.latents_file) {
    resolve_decoding(*options.latents_file, model, resolved);
  } else {
    locate_errors(source, [&] { resolve_sampling(options.request, model, should_stop, resolved); });
  }
  resolved.request.fps = options.request.fps.value_or(FrameRate{model.default_fps(), 1});
  return resolved;
}

}  // namespace mochi::job
