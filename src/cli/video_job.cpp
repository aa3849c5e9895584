#include "cli/video_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/check_same.h"
#include "cli/command_observer.h"
#include "cli/flag_names.h"
#include "cli/interrupt.h"
#include "cli/latents_file.h"
#include "cli/output_path.h"
#include "cli/progress_display.h"
#include "cli/terminal.h"
#include "io/video_writer.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Runs a check whose error names a field. That of a line of a sweep file is not the flag's fault.
template <typename Check>
void locate_errors(const VideoJob& job, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (job.source.empty()) throw;
    throw Error(job.source + ": " + error.what());
  }
}

void prepare_sampling(VideoJob& job, const Engine& engine) {
  const GenerateOptions& options = job.options;
  Latents noise;
  if (options.noise_file) noise = read_latents(*options.noise_file);
  std::vector<std::string> warnings;
  locate_errors(job, [&] {
    job.outcome.request = make_request(options, engine, options.noise_file ? &noise : nullptr);
    engine.model().check(job.outcome.request);
  });
  const GenerateRequest& request = job.outcome.request;
  if (!options.run.is_quiet) {
    for (const std::string& warning : engine.model().warnings(request)) {
      tell("warning: {}", warning);
    }
  }
  engine.model().check_files(request);
  job.latents = engine.model().latent_size({request.width, request.height, request.num_frames});
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

// Writes checkpoints, if wanted, and one when a step fails. The last one stays until the video is
// complete.
class CheckpointWriter final : public CommandObserver {
 public:
  CheckpointWriter(const VideoJob& job, const Engine& engine, ProgressDisplay& display)
      : CommandObserver(display),
        path_(checkpoint_path(job.outcome.output)),
        every_(job.options.run.checkpoint_every),
        is_quiet_(job.options.run.is_quiet),
        recipe_(describe_recipe(job.outcome, engine)) {}

  bool has_written() const { return num_written_steps_ > 0; }

  void on_step(const StepView& view) override {
    const bool is_due = every_ > 0 && view.num_done() < view.num_steps();
    if (is_due && view.num_done() % every_ == 0) write(view.state());
  }
  void on_interrupted(const StepView& view) override {
    if (view.num_done() == num_written_steps_) return;
    const bool has_failed = interrupt_signal() == 0;
    if (every_ == 0 && !has_failed) return;
    std::optional<SamplerState> state = view.state();
    if (!state && has_failed && !has_written()) {
      if (!is_quiet_) {
        tell(
            "warning: saved without the caches of its sparsity, which the next steps compute "
            "again; the video will differ a little");
      }
      state = SamplerState{view.num_done(), view.latents()};
    }
    write(state);
  }

 private:
  void write(const std::optional<SamplerState>& state) {
    if (!state) return;
    write_checkpoint(path_, *state, recipe_);
    num_written_steps_ = state->num_steps_done;
  }

  fs::path path_;
  int every_;
  bool is_quiet_;
  nlohmann::ordered_json recipe_;
  int num_written_steps_ = 0;
};

Latents sample(const VideoJob& job, Engine& engine, ProgressDisplay& display) {
  CheckpointWriter writer(job, engine, display);
  SampleOptions options{.start = nullptr, .checks_finite = job.options.run.checks_finite};
  if (job.checkpoint) options.start = &job.checkpoint->state;
  const std::string hint = fmt::format("to go on: mochi generate --resume {}",
                                       checkpoint_path(job.outcome.output).string());
  try {
    return engine.sample(job.outcome.request, writer, options);
  } catch (const Cancelled&) {
    if (writer.has_written() && !job.options.run.is_quiet) tell("{}", hint);
    throw;
  } catch (const Error& error) {
    std::string line = describe_error(error);
    const bool is_not_finite = dynamic_cast<const NotFinite*>(&error) != nullptr;
    if (is_not_finite && !options.checks_finite) line += "; --check-nan names the layer";
    if (writer.has_written()) line += "; the steps before are saved; " + hint;
    throw Error(line);
  }
}

// Decodes into a video that appears whole or not at all.
void decode_to_file(Engine& engine, const Latents& latents, const Outcome& outcome,
                    Observer& observer, bool& is_output_at_fault) {
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
      observer);
  is_output_at_fault = true;
  writer->finish();
}

// What was sampled is not lost when it cannot be decoded.
void decode(VideoJob& job, Engine& engine, Observer& observer) {
  bool is_output_at_fault = false;
  try {
    decode_to_file(engine, job.latents, job.outcome, observer, is_output_at_fault);
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& error) {
    if (is_output_at_fault || job.options.latents_file) throw;
    fs::path path = job.options.save_latents.value_or("");
    if (path.empty()) {
      path = job.outcome.output;
      path += ".latents.safetensors";
      write_latents(path, job.latents);
    }
    throw Error(fmt::format("{}; the sampled latents are saved; to go on: mochi decode {}",
                            describe_error(error), path.string()));
  }
}

}  // namespace

void prepare_request(VideoJob& job, const Engine& engine) {
  const GenerateOptions& options = job.options;
  Outcome& outcome = job.outcome;
  outcome.model_dir = options.engine.model_dir;
  outcome.random_weights = options.engine.random_weights;
  outcome.loras = options.engine.loras;
  outcome.noise_file = options.noise_file;
  outcome.latents_file = options.latents_file;
  outcome.fps = options.fps.value_or(engine.model().default_fps());
  if (options.latents_file) {
    job.latents = read_latents(*options.latents_file);
  } else {
    prepare_sampling(job, engine);
  }
  outcome.size = engine.model().video_size(job.latents);
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
  CommandObserver observer(display);
  if (!options.latents_file) {
    job.latents = sample(job, engine, display);
    if (options.save_latents) write_latents(*options.save_latents, job.latents);
  }
  decode(job, engine, observer);
  if (job.checkpoint || options.run.checkpoint_every > 0) {
    std::error_code ignored;  // there may be none
    fs::remove(checkpoint_path(job.outcome.output), ignored);
  }
  job.outcome.seconds = display.seconds();
  job.outcome.total_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace mochi::cli
