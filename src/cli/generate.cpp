#include "cli/generate.h"

#include <fmt/format.h>

#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/memory_usage.h"
#include "cli/command_observer.h"
#include "cli/output_path.h"
#include "cli/progress_display.h"
#include "cli/recipe.h"
#include "cli/sweep.h"
#include "cli/terminal.h"
#include "cli/usage_error.h"
#include "cli/video_job.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

void check_flags(const GenerateOptions& options) {
  check_fps(options);
  if (options.run.checkpoint_every < 0) {
    throw UsageError(fmt::format("--checkpoint-every: wanted 0 (none) or more steps, found {}",
                                 options.run.checkpoint_every));
  }
}

// The checkpoint named on the command line, or the one beside the output.
fs::path find_checkpoint(const GenerateOptions& options) {
  if (options.run.checkpoint) return *options.run.checkpoint;
  if (options.output) return checkpoint_path(*options.output);
  if (!options.prompt) {
    throw UsageError("--resume: give the checkpoint's file, or --out or --prompt of its video");
  }
  const fs::path folder = options.run.out_dir.value_or("videos");
  for (int number = 1;; ++number) {
    const fs::path output =
        numbered_output_path(folder, *options.prompt, options.seed.value_or(0), number);
    if (fs::exists(checkpoint_path(output))) return checkpoint_path(output);
    if (!fs::exists(output)) {
      fail("--resume: no checkpoint '{}'", checkpoint_path(output).string());
    }
  }
}

// The command line's options with the recipe's below them.
GenerateOptions put_over(const Recipe& recipe, const GenerateOptions& given) {
  GenerateOptions options = overlay(recipe.options, given);
  options.run = given.run;
  options.engine.num_threads = given.engine.num_threads;
  options.engine.cpu_offload = given.engine.cpu_offload;
  options.engine.vram_limit_bytes = given.engine.vram_limit_bytes;
  return options;
}

struct Run {
  std::vector<VideoJob> jobs;
  std::optional<Recipe> recipe;  // that the only job follows
};

Run make_run(const GenerateOptions& given) {
  Run run;
  if (given.run.sweep_file) {
    for (SweepVideo& video : read_sweep_file(*given.run.sweep_file, given)) {
      run.jobs.push_back({.options = std::move(video.options),
                          .source = std::move(video.source),
                          .checkpoint = {},
                          .latents = {},
                          .outcome = {}});
    }
    return run;
  }
  VideoJob job;
  job.options = given;
  if (given.run.resumes) {
    const fs::path path = find_checkpoint(given);
    job.checkpoint = read_checkpoint(path);
    run.recipe = parse_recipe(job.checkpoint->recipe, path.string());
  } else if (given.run.recipe) {
    run.recipe = parse_recipe(read_json(*given.run.recipe), given.run.recipe->string());
  }
  if (run.recipe) job.options = put_over(*run.recipe, given);
  if (given.run.resumes && !given.output) job.options.output = run.recipe->output;
  run.jobs.push_back(std::move(job));
  return run;
}

void print_summary(const Outcome& outcome, const Engine& engine) {
  tell_summary("{} ({}x{}, {} frames, {} fps)", outcome.output.string(), outcome.size.width,
               outcome.size.height, outcome.size.num_frames, outcome.fps);
  std::string times;
  for (const auto& [phase, seconds] : outcome.seconds) {
    times += fmt::format("{} {}, ", name_of(phase), format_seconds(seconds));
  }
  constexpr double kMebibyte = 1024.0 * 1024.0;
  std::string memory = fmt::format("peak memory {:.0f} MiB",
                                   static_cast<double>(outcome.peak_memory_bytes) / kMebibyte);
  const std::uint64_t device_bytes = engine.info().peak_device_bytes;
  if (device_bytes > 0) {
    memory += fmt::format(", on the GPU {:.0f} MiB", static_cast<double>(device_bytes) / kMebibyte);
  }
  tell_summary("{}in all {}; {}", times, format_seconds(outcome.total_seconds), memory);
}

// Says why there is no GPU where one would have been taken.
void announce_device(const GenerateOptions& options, const Engine& engine) {
  const std::string note = engine.info().device_note;
  if (options.run.is_quiet || note.empty()) return;
  tell("running on the CPU: {}", note);
}

// Says which video of many this is, and which prompt it shows where nobody has given one.
void announce(const VideoJob& job, std::size_t job_idx, std::size_t num_jobs) {
  const GenerateOptions& options = job.options;
  if (options.run.is_quiet) return;
  if (num_jobs > 1) {
    tell("video {} of {}: {}", job_idx + 1, num_jobs, job.outcome.request.prompt);
  } else if (!options.prompt && !options.latents_file) {
    tell("no --prompt given, showing: {}", job.outcome.request.prompt);
  }
}

void finish(VideoJob& job, const Engine& engine) {
  job.outcome.peak_memory_bytes = peak_memory_bytes();
  const nlohmann::ordered_json json = describe_outcome(job.outcome, engine);
  try {
    write_file_atomically(sidecar_path(job.outcome.output), json.dump(2) + "\n");
  } catch (const Error& error) {
    // The video is there by now, whatever becomes of the words about it.
    fail("{}; the video itself, '{}', is complete", error.what(), job.outcome.output.string());
  }
  if (job.options.run.prints_json) {
    print_result(json.dump() + "\n");
  } else if (!job.options.run.is_quiet) {
    print_summary(job.outcome, engine);
  }
}

}  // namespace

void run_generate(const GenerateOptions& options) {
  check_flags(options);
  Run run = make_run(options);
  EngineOptions engine_options = run.jobs.front().options.engine;
  choose_model(engine_options);
  engine_options.on_message = message_printer(options.run.is_quiet, options.run.is_verbose);
  Engine engine(engine_options);
  // Another model may make a like video, but cannot go on with this one.
  const bool needs_same_model = options.run.resumes || options.engine.model_dir.empty();
  if (run.recipe && needs_same_model) check_model_files(*run.recipe, engine);
  std::set<fs::path> taken;
  for (VideoJob& job : run.jobs) {
    job.options.engine.model_dir = engine_options.model_dir;
    prepare(job, engine, taken);
  }
  announce_device(options, engine);
  for (std::size_t i = 0; i < run.jobs.size(); ++i) {
    announce(run.jobs[i], i, run.jobs.size());
    mochi::cli::run(run.jobs[i], engine);
    finish(run.jobs[i], engine);
    run.jobs[i].latents = {};
  }
}

}  // namespace mochi::cli
