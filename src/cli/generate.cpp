#include "cli/generate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <utility>

#include "base/atomic_file.h"
#include "base/memory_usage.h"
#include "cli/interrupt.h"
#include "cli/latents_file.h"
#include "cli/output_path.h"
#include "cli/progress_display.h"
#include "cli/sidecar.h"
#include "cli/usage_error.h"
#include "io/video_writer.h"

namespace mochi::cli {
namespace {

using Clock = std::chrono::steady_clock;

ProgressDisplay::Style display_style(const GenerateOptions& options) {
  if (options.is_quiet) return ProgressDisplay::Style::kNone;
  const bool is_terminal = ::isatty(STDERR_FILENO) == 1;
  return is_terminal ? ProgressDisplay::Style::kBar : ProgressDisplay::Style::kLines;
}

// "num_frames: wanted ..." → "--num-frames: wanted ...".
std::string name_flag(std::string message) {
  static const std::map<std::string, std::string> other_names{{"num_threads", "--threads"},
                                                              {"initial_noise", "--noise"},
                                                              {"loras", "--lora-path"},
                                                              {"latents", "--noise"},
                                                              {"noise source", "--noise-source"}};
  const std::size_t end = message.find(':');
  if (end == std::string::npos) return message;
  const std::string field = message.substr(0, end);
  const auto other = other_names.find(field);
  if (other != other_names.end()) return other->second + message.substr(end);
  if (field.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) return message;
  std::replace(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  return "--" + message;
}

// The request that the flags stand for, checked.
GenerateRequest make_checked_request(const GenerateOptions& options, const Engine& engine,
                                     const Latents* noise) {
  try {
    GenerateRequest request = make_request(options, engine, noise);
    engine.check(request);
    return request;
  } catch (const Error& error) {
    throw UsageError(name_flag(error.what()));
  }
}

Engine make_engine(const EngineOptions& options) {
  try {
    return Engine(options);
  } catch (const Error& error) {
    throw Error(name_flag(error.what()));
  }
}

// Decodes into a video that appears whole or not at all.
void decode_to_file(Engine& engine, const Latents& latents, const Outcome& outcome,
                    const ProgressFn& progress) {
  const VideoFormat format{outcome.size.width, outcome.size.height, {outcome.fps, 1}};
  const std::unique_ptr<VideoWriter> writer = make_video_writer(outcome.output, format);
  engine.decode(
      latents,
      [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        writer->write_frame(rgb);
      },
      progress);
  writer->finish();
}

// Better now than after the sampling: what cannot be written to says so when it is opened.
void check_outputs(const Outcome& outcome, const GenerateOptions& options) {
  if (options.save_latents) const AtomicPath probe(*options.save_latents);
  make_video_writer(outcome.output, {outcome.size.width, outcome.size.height, {outcome.fps, 1}});
}

void print_summary(const Outcome& outcome) {
  fmt::print("{} ({}x{}, {} frames, {} fps)\n", outcome.output.string(), outcome.size.width,
             outcome.size.height, outcome.size.num_frames, outcome.fps);
  std::string times;
  for (const auto& [phase, seconds] : outcome.seconds) {
    times += fmt::format("{} {}, ", phase_name(phase), format_seconds(seconds));
  }
  constexpr double kMebibyte = 1024.0 * 1024.0;
  fmt::print("{}in all {}; peak memory {:.0f} MiB\n", times, format_seconds(outcome.total_seconds),
             static_cast<double>(outcome.peak_memory_bytes) / kMebibyte);
}

}  // namespace

void run_generate(GenerateOptions options) {
  const Clock::time_point begin = Clock::now();
  if (!options.prompt && !options.latents_file) {
    throw UsageError("--prompt is missing: say what the video shows, or give --from-latents");
  }
  if (options.fps && (*options.fps < 1 || *options.fps > 1000)) {
    throw UsageError(fmt::format("--fps: wanted 1 to 1000, found {}", *options.fps));
  }
  if (options.engine.model_dir.empty()) options.engine.model_dir = find_boxed_model();

  for (const std::string& lora : options.loras) options.engine.loras.push_back(parse_lora(lora));

  Engine engine = make_engine(options.engine);
  Outcome outcome;
  outcome.model_dir = options.engine.model_dir;
  outcome.loras = options.engine.loras;
  outcome.noise_file = options.noise_file;
  outcome.latents_file = options.latents_file;
  outcome.fps = options.fps.value_or(engine.default_fps());

  Latents latents;
  if (options.latents_file) {
    latents = read_latents(*options.latents_file);
  } else {
    Latents noise;
    if (options.noise_file) noise = read_latents(*options.noise_file);
    outcome.request = make_checked_request(options, engine, options.noise_file ? &noise : nullptr);
    const GenerateRequest& request = outcome.request;
    engine.check_files(request);
    latents = engine.latent_size({request.width, request.height, request.num_frames});
  }
  outcome.size = engine.video_size(latents);
  const std::string text =
      options.latents_file ? options.latents_file->stem().string() : outcome.request.prompt;
  outcome.output =
      options.output ? *options.output : default_output_path(text, outcome.request.seed);
  check_outputs(outcome, options);

  ProgressDisplay display(display_style(options));
  const ProgressFn on_progress = [&display](const Progress& progress) {
    display.show(progress);
    return interrupt_signal() == 0;
  };
  if (!options.latents_file) {
    latents = engine.sample(outcome.request, on_progress);
    if (options.save_latents) write_latents(*options.save_latents, latents);
  }
  decode_to_file(engine, latents, outcome, on_progress);

  outcome.seconds = display.seconds();
  outcome.total_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  outcome.peak_memory_bytes = peak_memory_bytes();
  write_sidecar(sidecar_path(outcome.output), outcome, engine);
  if (!options.is_quiet) print_summary(outcome);
}

}  // namespace mochi::cli
