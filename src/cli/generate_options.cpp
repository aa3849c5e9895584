#include "cli/generate_options.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <utility>

#include "cli/byte_size.h"
#include "cli/output_path.h"
#include "cli/usage_error.h"

namespace mochi::cli {
namespace {

// Groups of the help.
constexpr const char* kSampling = "What it shows, and how it is sampled";
constexpr const char* kFiles = "Files and messages";

Flags add_sparsity_flags(CLI::App& command, GenerateOptions& options) {
  return {
      add_sparsity_flag(command, options, "how it is sparse (default: dense)"),
      command.add_flag("--no-sparsity", options.is_dense, "all is dense")->group(kSampling),
  };
}

Flags add_sampling_file_flags(CLI::App& command, GenerateOptions& options) {
  CLI::Option* every = command.add_option("--checkpoint-every", options.run.checkpoint_every,
                                          "steps between two checkpoints (0: none)");
  CLI::Option* resume =
      command
          .add_option("--resume", options.run.checkpoint, "go on from a checkpoint (the output's)")
          ->expected(0, 1);
  return {
      command.add_option("--save-latents", options.save_latents, "write the sampled latents, too")
          ->type_name("FILE")
          ->group(kFiles),
      command
          .add_option("--from-json", options.run.recipe,
                      "make a video again from the JSON beside it")
          ->type_name("FILE")
          ->group(kFiles),
      command
          .add_option("--sweep-file", options.run.sweep_file, "many videos: a JSON object a line")
          ->type_name("FILE")
          ->group(kFiles),
      every->group(kFiles),
      command
          .add_flag("--check-nan", options.run.checks_finite,
                    "look for values that are not finite after each step")
          ->group(kSampling),
      resume->type_name("[FILE]")->group(kFiles),
  };
}

// Of these flags, the first that was given; null for none.
const CLI::Option* first_given(const Flags& flags) {
  for (const CLI::Option* flag : flags) {
    if (flag->count() > 0) return flag;
  }
  return nullptr;
}

void refuse_together(const CLI::Option* flag, const CLI::Option* other) {
  if (flag->count() == 0 || other == nullptr || other->count() == 0) return;
  throw UsageError(fmt::format("{} has no effect with {}", other->get_name(), flag->get_name()));
}

}  // namespace

Flags add_basic_flags(CLI::App& command, GenerateOptions& options) {
  return {
      command.add_option("--negative-prompt", options.negative_prompt, "what it shall not show")
          ->group(kSampling),
      command.add_option("--width", options.width, "pixels, a multiple of 16")->group(kSampling),
      command.add_option("--height", options.height, "pixels, a multiple of 16")->group(kSampling),
      command.add_option("--num-frames", options.num_frames, "6k + 1")->group(kSampling),
      command.add_option("--seed", options.seed, "of the start noise (default: 0)")
          ->type_name("UINT|random")
          ->group(kSampling),
      command.add_option("--num-steps", options.num_steps, "sampling steps")->group(kSampling),
      command.add_option("--cfg-scale", options.cfg_scale, "guidance; 1: none")->group(kSampling),
  };
}

Flags add_request_flags(CLI::App& command, GenerateOptions& options) {
  Flags flags{
      command.add_option("--prompt", options.prompt, "what the video shows (default: the model's)")
          ->group(kSampling)};
  const auto add = [&flags](const Flags& more) {
    flags.insert(flags.end(), more.begin(), more.end());
  };
  add(add_basic_flags(command, options));
  add({
      command.add_option("--cfg-schedule", options.cfg_schedule, "guidance of each step: 6,6,4,1")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->type_name("FLOAT,...")
          ->group(kSampling),
      command
          .add_option("--threshold-noise", options.threshold_noise,
                      "noise the linear steps take away")
          ->group(kSampling),
      command
          .add_option("--linear-steps", options.linear_steps,
                      "linear part of the steps (0: half of them)")
          ->group(kSampling),
      command.add_option("--noise-source", options.noise_source, "whose random numbers")
          ->type_name("mochi|torch-cpu|torch-cuda")
          ->group(kSampling),
      command.add_option("--noise", options.noise_file, "start noise from a .safetensors file")
          ->type_name("FILE")
          ->group(kSampling),
  });
  return flags;
}

CLI::Option* add_sparsity_flag(CLI::App& command, GenerateOptions& options, const char* help) {
  return command.add_option("--chipmunk-config", options.chipmunk_config, help)
      ->type_name("FILE")
      ->group(kSampling);
}

CLI::Option* add_lora_flags(CLI::App& command, GenerateOptions& options) {
  constexpr const char* kGroup = "Model and machine";
  CLI::Option* loras =
      command.add_option("--lora-path", options.loras, "a LoRA; may be given several times")
          ->allow_extra_args(false)
          ->type_name("FILE[:scale]")
          ->group(kGroup);
  command
      .add_flag("--cpu-offload", options.engine.cpu_offload, "keep in memory only what is at work")
      ->group(kGroup);
  return loras;
}

void take_loras(GenerateOptions& options) {
  for (const std::string& lora : options.loras) options.engine.loras.push_back(parse_lora(lora));
}

void add_output_flags(CLI::App& command, GenerateOptions& options) {
  command.add_option("--out", options.output, ".mp4, .webm, .gif, .y4m, or a folder of PNGs")
      ->type_name("FILE")
      ->group(kFiles);
  command.add_option("--out-dir", options.run.out_dir, "folder of videos without --out (videos/)")
      ->type_name("DIR")
      ->group(kFiles);
  add_fps_flag(command, options);
}

void add_fps_flag(CLI::App& command, GenerateOptions& options) {
  command.add_option("--fps", options.fps, "frames per second")->group(kFiles);
}

void check_fps(const GenerateOptions& options) {
  if (options.fps && (*options.fps < 1 || *options.fps > kMaxFps)) {
    throw UsageError(fmt::format("--fps: wanted 1 to {}, found {}", kMaxFps, *options.fps));
  }
}

void add_report_flags(CLI::App& command, GenerateOptions& options, const char* what) {
  command.add_flag("--quiet", options.run.is_quiet, "print errors only")->group(kFiles);
  command
      .add_flag("--json", options.run.prints_json,
                fmt::format("print the {}'s JSON, not a summary", what))
      ->group(kFiles);
}

void add_engine_flags(CLI::App& command, EngineOptions& options) {
  constexpr const char* kGroup = "Model and machine";
  command
      .add_option("--model-dir", options.model_dir,
                  "the model's folder (default: the small one in the box)")
      ->type_name("DIR")
      ->group(kGroup);
  command
      .add_option("--random-weights", options.random_weights,
                  "no files: random networks of these sizes")
      ->type_name("mochi-1-preview|config")
      ->group(kGroup);
  command.add_option("--device", options.device, "where the networks run")
      ->type_name("auto|cpu|cuda")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option_function<std::string>(
          "--vram-limit",
          [&options](const std::string& text) {
            options.vram_limit_bytes = parse_byte_size(text, "--vram-limit");
          },
          "of a GPU's memory, at most: 16GB (default: all)")
      ->type_name("SIZE")
      ->group(kGroup);
  command.add_option("--dtype", options.dtype, "of the weights in memory")
      ->type_name("auto|fp32|bf16")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--threads", options.num_threads, "0: all cores")
      ->capture_default_str()
      ->group(kGroup);
}

void choose_model(EngineOptions& options) {
  const bool has_sizes = !options.random_weights.empty() && options.random_weights != "config";
  if (options.model_dir.empty() && !has_sizes) options.model_dir = find_boxed_model();
}

void add_generate_flags(CLI::App& command, GenerateOptions& options) {
  Flags of_sampling = add_request_flags(command, options);
  add_output_flags(command, options);
  const Flags files = add_sampling_file_flags(command, options);
  of_sampling.insert(of_sampling.end(), files.begin(), files.end());
  const Flags sparsity = add_sparsity_flags(command, options);
  of_sampling.insert(of_sampling.end(), sparsity.begin(), sparsity.end());
  const CLI::Option* from_latents =
      command.add_option("--from-latents", options.latents_file, "only decode; nothing is sampled")
          ->type_name("FILE")
          ->group(kFiles);
  add_engine_flags(command, options.engine);
  of_sampling.push_back(add_lora_flags(command, options));
  add_report_flags(command, options);
  // CLI11's own excludes() would fill the help with lists of flags.
  command.callback([&command, &options, from_latents, of_sampling] {
    const auto get = [&command](const char* name) { return command.get_option(name); };
    options.run.resumes = get("--resume")->count() > 0;
    if (options.run.checkpoint && options.run.checkpoint->empty()) options.run.checkpoint.reset();
    refuse_together(from_latents, first_given(of_sampling));
    const Flags of_one_video{get("--out"), get("--save-latents"), get("--from-json"),
                             get("--resume")};
    refuse_together(get("--sweep-file"), first_given(of_one_video));
    refuse_together(get("--out"), get("--out-dir"));
    refuse_together(get("--no-sparsity"), get("--chipmunk-config"));
    refuse_together(get("--resume"), get("--from-json"));
    take_loras(options);
  });
}

Lora parse_lora(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::is_regular_file(text)) return {text};
  const std::string path = text.substr(0, colon);
  const std::string number = text.substr(colon + 1);
  const char* const number_end = number.data() + number.size();
  double scale = 0;
  const auto [end, error] = std::from_chars(number.data(), number_end, scale);
  if (path.empty() || error != std::errc() || end != number_end || !std::isfinite(scale)) {
    throw UsageError(
        fmt::format("--lora-path: wanted FILE or FILE:scale, found '{}', whose scale would be '{}'",
                    text, number));
  }
  return {path, scale};
}

GenerateOptions overlay(GenerateOptions lower, const GenerateOptions& upper) {
  const auto put = [](auto& under, const auto& over) {
    if (over) under = over;
  };
  // What belongs to other values of the fields that are put over it.
  if (upper.cfg_scale) lower.cfg_schedule.clear();
  if (!upper.cfg_schedule.empty()) lower.cfg_schedule = upper.cfg_schedule;
  if (upper.num_steps || !upper.cfg_schedule.empty()) lower.linear_steps.reset();
  if (upper.seed || upper.noise_source) lower.noise_file.reset();
  if (upper.is_dense || upper.chipmunk_config) {
    lower.is_dense = upper.is_dense;
    lower.chipmunk_config = upper.chipmunk_config;
  }
  put(lower.prompt, upper.prompt);
  put(lower.negative_prompt, upper.negative_prompt);
  put(lower.width, upper.width);
  put(lower.height, upper.height);
  put(lower.num_frames, upper.num_frames);
  put(lower.fps, upper.fps);
  put(lower.seed, upper.seed);
  put(lower.num_steps, upper.num_steps);
  put(lower.linear_steps, upper.linear_steps);
  put(lower.cfg_scale, upper.cfg_scale);
  put(lower.threshold_noise, upper.threshold_noise);
  put(lower.noise_source, upper.noise_source);
  put(lower.noise_file, upper.noise_file);
  put(lower.latents_file, upper.latents_file);
  put(lower.save_latents, upper.save_latents);
  put(lower.output, upper.output);
  if (!upper.engine.model_dir.empty()) lower.engine.model_dir = upper.engine.model_dir;
  if (!upper.engine.loras.empty()) lower.engine.loras = upper.engine.loras;
  if (upper.engine.device != "auto") lower.engine.device = upper.engine.device;
  if (upper.engine.dtype != "auto") lower.engine.dtype = upper.engine.dtype;
  if (!upper.engine.random_weights.empty()) {
    lower.engine.random_weights = upper.engine.random_weights;
  }
  return lower;
}

GenerateRequest make_request(const GenerateOptions& options, const Engine& engine,
                             const Latents* noise) {
  GenerateRequest request = engine.default_request();
  const auto apply = [](auto& field, const auto& given) {
    if (given) field = *given;
  };
  if (noise != nullptr) {
    const VideoSize size = engine.video_size(*noise);
    request.width = size.width;
    request.height = size.height;
    request.num_frames = size.num_frames;
    request.initial_noise = noise->values;
  }
  apply(request.prompt, options.prompt);
  apply(request.negative_prompt, options.negative_prompt);
  apply(request.width, options.width);
  apply(request.height, options.height);
  apply(request.num_frames, options.num_frames);
  apply(request.seed, options.seed);
  apply(request.cfg_scale, options.cfg_scale);
  apply(request.threshold_noise, options.threshold_noise);
  apply(request.noise_source, options.noise_source);
  request.cfg_schedule = options.cfg_schedule;
  request.sparsity = options.sparsity;
  if (options.chipmunk_config) request.sparsity = load_sparsity_config(*options.chipmunk_config);
  if (options.is_dense) request.sparsity.reset();
  const bool has_own_steps = options.num_steps || !options.cfg_schedule.empty();
  if (!options.cfg_schedule.empty()) {
    request.num_steps = static_cast<int>(options.cfg_schedule.size());
  }
  apply(request.num_steps, options.num_steps);
  // The model's number of linear steps belongs to its own number of steps.
  if (has_own_steps) request.linear_steps = 0;
  apply(request.linear_steps, options.linear_steps);
  return request;
}

}  // namespace mochi::cli
