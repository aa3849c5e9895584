#include "cli/encode.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_target.h"
#include "base/memory_usage.h"
#include "cli/command_observer.h"
#include "cli/interrupt.h"
#include "cli/progress_display.h"
#include "cli/terminal.h"
#include "flags/usage_error.h"
#include "io/clip.h"
#include "io/file_name.h"
#include "job/bundled.h"
#include "job/latents_file.h"
#include "job/recipe.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

FrameSize wanted_size(const EncodeOptions& options) {
  if (options.width.has_value() != options.height.has_value()) {
    throw flags::UsageError("--width and --height: wanted both or neither");
  }
  return {options.width.value_or(0), options.height.value_or(0)};
}

Fit wanted_fit(const EncodeOptions& options) {
  if (!options.fit) return Fit::kCrop;
  if (!options.width) throw flags::UsageError("--fit: has no effect without --width and --height");
  return parse_fit(*options.fit)
      .value_or(Fit::kCrop);  // flags::read_arguments() accepts no other name
}

ClipOptions clip_options(const EncodeOptions& options) {
  ClipOptions clip;
  const std::optional<ReadStart> start = parse_read_start(options.start);
  if (!start) {
    throw flags::UsageError(fmt::format(
        "--start: wanted a frame such as 48 or a time such as 2.5s, found '{}'", options.start));
  }
  clip.start = *start;
  clip.num_frames = options.num_frames;
  if (options.width || options.height) clip.size = wanted_size(options);
  clip.fit = wanted_fit(options);
  return clip;
}

// Throws if the output is the video itself or a file of the model.
void check_output(const EncodeOptions& options, const Engine& engine) {
  const fs::path& output = options.output;
  if (lower_extension(output) != ".safetensors") {
    throw flags::UsageError(
        fmt::format("--out: wanted a name that ends in .safetensors, found '{}'", output.string()));
  }
  if (same_file(options.video, output)) {
    throw flags::UsageError(fmt::format("--out: '{}' is the video to encode", output.string()));
  }
  for (const ModelFile& file : engine.model().files()) {
    if (same_file(options.engine.model_dir / file.name, output)) {
      throw flags::UsageError(fmt::format("--out: '{}' is a file of the model", output.string()));
    }
  }
}

// Throws if the model cannot encode this size or length, which come from flags or from the file; in
// the latter case the error names the flag that helps.
void check_clip(const EncodeOptions& options, const Engine& engine, FrameSize size,
                int num_frames) {
  try {
    engine.model().latent_size(
        {.width = size.width, .height = size.height, .num_frames = num_frames});
  } catch (const InvalidRequest& error) {
    const bool is_length = error.field() == "num_frames";
    if (is_length ? options.num_frames.has_value() : options.width.has_value()) throw;
    fail("'{}': {} ({})", options.video.string(), error.what(),
         is_length ? "--num-frames takes a part of it"
                   : "--width and --height with --fit bring it to another size");
  }
}

// The recipe of the latents: the model, and the rate of the video, which `mochi decode` then takes.
nlohmann::ordered_json describe_clip(const EncodeOptions& options, const Clip& clip,
                                     const Engine& engine) {
  job::Recipe recipe;
  recipe.output = options.video;
  recipe.size = {
      .width = clip.size.width, .height = clip.size.height, .num_frames = clip.num_frames};
  recipe.request.fps = clip.rate.value_or(FrameRate{engine.model().default_fps(), 1});
  recipe.engine = options.engine;
  return job::describe_recipe(recipe, job::made_with(engine));
}

}  // namespace

void add_encode_flags(CLI::App& command, EncodeOptions& options) {
  command.add_option("video", options.video, "a video, an image, or a folder of PNGs or JPEGs")
      ->type_name("FILE")
      ->required();
  command.add_option("--out", options.output, "the .safetensors file of latents to write")
      ->type_name("FILE")
      ->required();
  command.add_option("--num-frames", options.num_frames,
                     "frames to encode: 1, 7, 13, ... (default: all from --start on)");
  command.add_option("--start", options.start,
                     "first frame, counted from 0, such as 48, or its time, such as 2.5s "
                     "(default: 0)");
  command.add_option("--width", options.width,
                     "resize to this many pixels, a multiple of 16 (default: the video's width)");
  command.add_option("--height", options.height,
                     "resize to this many pixels, a multiple of 16 (default: the video's height)");
  command
      .add_option("--fit", options.fit,
                  "how a video of another shape is resized: crop it, pad it with black, or stretch "
                  "it (default: crop)")
      ->type_name("crop|pad|stretch");
  add_engine_flags(command, options.engine);
  command.add_flag("--quiet", options.is_quiet, "print errors only");
  command.add_flag("--verbose", options.is_verbose, "also print details of how the engine works");
}

void add_decode_flags(CLI::App& command, GenerateOptions& options) {
  command.add_option("latents", options.job.latents_file, "a .safetensors file of latents")
      ->type_name("FILE")
      ->required();
  add_output_flags(command, options);
  add_field_flag(command, options.job.request, "fps",
                 "frames per second, such as 24 or 24000/1001 (default: that of the latents)");
  add_engine_flags(command, options.job.engine);
  add_report_flags(command, options);
}

void run_encode(EncodeOptions options) {
  ClipOptions clip_wanted = clip_options(options);
  job::choose_model(options.engine);
  options.engine.on_message = message_printer(options.is_quiet, options.is_verbose);
  Engine engine(options.engine);
  check_output(options, engine);
  {
    const AtomicFile probe(options.output);  // better now than after the work
  }
  clip_wanted.check_size = [&](FrameSize size, int num_frames) {
    check_clip(options, engine, size, num_frames);
  };
  clip_wanted.should_stop = was_interrupted;
  const Clip clip = read_clip(options.video, clip_wanted);
  if (!options.is_quiet) {
    for (const std::string& note : clip.notes) tell("warning: {}", note);
  }
  ProgressDisplay display(display_style(options.is_quiet));
  CommandObserver observer(display);
  const Latents latents = engine.encode(
      clip.rgb,
      {.width = clip.size.width, .height = clip.size.height, .num_frames = clip.num_frames},
      observer);
  job::write_latents(options.output, latents, describe_clip(options, clip, engine),
                     was_interrupted);
  if (options.is_quiet) return;
  constexpr double kMebibyte = 1024.0 * 1024.0;
  tell_summary("{} ([1, {}, {}, {}, {}]); peak memory {:.0f} MiB", options.output.string(),
               latents.channels, latents.num_frames, latents.height, latents.width,
               static_cast<double>(peak_memory_bytes()) / kMebibyte);
}

}  // namespace mochi::cli
