#include "cli/video_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/check_same.h"
#include "cli/flag_names.h"
#include "cli/interrupt.h"
#include "cli/latents_file.h"
#include "cli/output_path.h"
#include "cli/progress_display.h"
#include "cli/terminal.h"
#include "cli/usage_error.h"
#include "io/video_writer.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Runs a check whose error names a field: of a line of a sweep file, or of the command line.
template <typename Check>
void locate_errors(const VideoJob& job, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (!job.source.empty()) throw Error(job.source + ": " + error.what());
    throw UsageError(name_flag(error.what()));
  }
}

void prepare_sampling(VideoJob& job, const Engine& engine) {
  const GenerateOptions& options = job.options;
  Latents noise;
  if (options.noise_file) noise = read_latents(*options.noise_file);
  locate_errors(job, [&] {
    job.outcome.request = make_request(options, engine, options.noise_file ? &noise : nullptr);
    engine.check(job.outcome.request);
  });
  const GenerateRequest& request = job.outcome.request;
  if (!options.run.is_quiet) {
    for (const std::string& doubt : engine.find_doubts(request)) {
      tell("warning: {}", doubt);
    }
  }
  engine.check_files(request);
  job.latents = engine.latent_size({request.width, request.height, request.num_frames});
}

// A checkpoint goes on with what it was made for, and with nothing else.
void check_checkpoint(const VideoJob& job, const Json& found, const Engine& engine) {
  const nlohmann::ordered_json wanted = describe_recipe(job.outcome, engine);
  const std::string owner = "the checkpoint's video";
  check_same(owner, wanted["request"], found.value("request", Json::object()));
  const auto part = [](const auto& json, const char* section, const char* key) {
    return nlohmann::ordered_json{{key, json.value(section, Json::object()).value(key, Json())}};
  };
  check_same(owner, part(Json(wanted), "model", "loras"), part(found, "model", "loras"));
  check_same(owner, part(Json(wanted), "engine", "dtype"), part(found, "engine", "dtype"));
}

void choose_output(VideoJob& job, std::set<fs::path>& taken) {
  const GenerateOptions& options = job.options;
  Outcome& outcome = job.outcome;
  if (options.output) {
    outcome.output = *options.output;
    if (taken.contains(outcome.output)) {
      fail("{}: out: '{}' is taken by an earlier line", job.source, outcome.output.string());
    }
  } else {
    const std::string text =
        options.latents_file ? options.latents_file->stem().string() : outcome.request.prompt;
    outcome.output = default_output_path(options.run.out_dir.value_or("videos"), text,
                                         outcome.request.seed, taken);
  }
  taken.insert(outcome.output);
}

VideoFormat format_of(const Outcome& outcome) {
  return {outcome.size.width, outcome.size.height, {outcome.fps, 1}};
}

// Better now than after the sampling: what cannot be written to says so when it is opened.
void check_outputs(const VideoJob& job) {
  if (job.options.save_latents) const AtomicFile probe(*job.options.save_latents);
  make_video_writer(job.outcome.output, format_of(job.outcome));
  const AtomicFile sidecar(sidecar_path(job.outcome.output));
}

// With checkpoints, if wanted, and one when a step fails. The last one stays until the video is
// complete.
Latents sample(const VideoJob& job, Engine& engine, const ProgressFn& on_progress) {
  const fs::path path = checkpoint_path(job.outcome.output);
  SampleControl control;
  if (job.checkpoint) control.start = &job.checkpoint->state;
  control.checkpoint_every = job.options.run.checkpoint_every;
  control.checks_finite = job.options.run.checks_finite;
  bool is_written = false;
  control.on_checkpoint = [&, recipe =
                                  describe_recipe(job.outcome, engine)](const SamplerState& state) {
    write_checkpoint(path, state, recipe);
    is_written = true;
  };
  const std::string hint = fmt::format("to go on: mochi generate --resume {}", path.string());
  try {
    return engine.sample(job.outcome.request, on_progress, control);
  } catch (const Cancelled&) {
    if (is_written && !job.options.run.is_quiet) tell("{}", hint);
    throw;
  } catch (const Error& error) {
    if (!is_written) throw;
    throw Error(fmt::format("{}; the steps before are saved; {}", error.what(), hint));
  }
}

// Decodes into a video that appears whole or not at all.
void decode_to_file(Engine& engine, const Latents& latents, const Outcome& outcome,
                    const ProgressFn& progress, bool& is_output_at_fault) {
  is_output_at_fault = true;
  const std::unique_ptr<VideoWriter> writer = make_video_writer(outcome.output, format_of(outcome));
  is_output_at_fault = false;
  engine.decode(
      latents,
      [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        is_output_at_fault = true;
        writer->write_frame(rgb);
        is_output_at_fault = false;
      },
      progress);
  is_output_at_fault = true;
  writer->finish();
}

// What was sampled is not lost when it cannot be decoded.
void decode(VideoJob& job, Engine& engine, const ProgressFn& progress) {
  bool is_output_at_fault = false;
  try {
    decode_to_file(engine, job.latents, job.outcome, progress, is_output_at_fault);
  } catch (const Error& error) {
    if (is_output_at_fault || job.options.latents_file) throw;
    fs::path path = job.options.save_latents.value_or("");
    if (path.empty()) {
      path = job.outcome.output;
      path += ".latents.safetensors";
      write_latents(path, job.latents);
    }
    throw Error(fmt::format("{}; the sampled latents are saved; to go on: mochi decode {}",
                            error.what(), path.string()));
  }
}

}  // namespace

Engine open_engine(const EngineOptions& options) {
  try {
    return Engine(options);
  } catch (const Error& error) {
    throw Error(name_flag(error.what()));
  }
}

void prepare_request(VideoJob& job, const Engine& engine) {
  const GenerateOptions& options = job.options;
  Outcome& outcome = job.outcome;
  outcome.model_dir = options.engine.model_dir;
  outcome.random_weights = options.engine.random_weights;
  outcome.loras = options.engine.loras;
  outcome.noise_file = options.noise_file;
  outcome.latents_file = options.latents_file;
  outcome.fps = options.fps.value_or(engine.default_fps());
  if (options.latents_file) {
    job.latents = read_latents(*options.latents_file);
  } else {
    prepare_sampling(job, engine);
  }
  outcome.size = engine.video_size(job.latents);
}

void prepare(VideoJob& job, const Engine& engine, std::set<fs::path>& taken) {
  prepare_request(job, engine);
  choose_output(job, taken);
  if (job.checkpoint) check_checkpoint(job, job.checkpoint->recipe, engine);
  check_outputs(job);
}

void run(VideoJob& job, Engine& engine) {
  const Clock::time_point begin = Clock::now();
  const GenerateOptions& options = job.options;
  ProgressDisplay display(display_style(options.run.is_quiet));
  const ProgressFn on_progress = [&display](const Progress& progress) {
    display.show(progress);
    return interrupt_signal() == 0;
  };
  if (!options.latents_file) {
    job.latents = sample(job, engine, on_progress);
    if (options.save_latents) write_latents(*options.save_latents, job.latents);
  }
  decode(job, engine, on_progress);
  if (job.checkpoint || options.run.checkpoint_every > 0) {
    std::error_code ignored;  // there may be none
    fs::remove(checkpoint_path(job.outcome.output), ignored);
  }
  job.outcome.seconds = display.seconds();
  job.outcome.total_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace mochi::cli
