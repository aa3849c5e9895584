#include "cli/generate_options.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "cli/usage_error.h"

namespace mochi::cli {
namespace {

void add_model_flags(CLI::App& command, GenerateOptions& options) {
  command.add_option("--model-dir", options.engine.model_dir,
                     "folder of the model (default: the small one in the box)");
  command.add_option("--device", options.engine.device, "auto or cpu")->capture_default_str();
  command.add_option("--dtype", options.engine.dtype, "weights in memory: auto, fp32 or bf16")
      ->capture_default_str();
  command.add_option("--threads", options.engine.num_threads, "0: all cores")
      ->capture_default_str();
}

// CLI11 would read "-1" as the largest unsigned number.
std::string refuse_sign(const std::string& text) {
  return text.starts_with("-") ? fmt::format("wanted 0 or more, found {}", text) : "";
}

// Everything that --from-latents makes meaningless.
std::vector<CLI::Option*> add_sampling_flags(CLI::App& command, GenerateOptions& options) {
  return {
      command.add_option("--prompt", options.prompt, "what the video shows"),
      command.add_option("--negative-prompt", options.negative_prompt, "what it shall not show"),
      command.add_option("--width", options.width, "pixels, a multiple of 16"),
      command.add_option("--height", options.height, "pixels, a multiple of 16"),
      command.add_option("--num-frames", options.num_frames, "6k + 1"),
      command.add_option("--seed", options.seed, "of the start noise (default: 0)")
          ->check(refuse_sign),
      command.add_option("--num-steps", options.num_steps, "sampling steps"),
      command.add_option("--cfg-scale", options.cfg_scale, "guidance; 1: none"),
      command.add_option("--cfg-schedule", options.cfg_schedule, "guidance of each step: 6,6,4,1")
          ->delimiter(',')
          ->allow_extra_args(false),
      command.add_option("--threshold-noise", options.threshold_noise,
                         "noise that the linear steps take away"),
      command.add_option("--linear-steps", options.linear_steps,
                         "linear part of the steps (0: half of them)"),
      command.add_option("--noise-source", options.noise_source, "mochi, torch-cpu or torch-cuda"),
      command
          .add_option("--lora-path,--lora_path", options.loras,
                      "FILE[:scale] of a LoRA; may be given several times")
          ->allow_extra_args(false),
      command.add_option("--noise", options.noise_file,
                         "start noise from a .safetensors file, instead of the seed's"),
  };
}

}  // namespace

void add_generate_flags(CLI::App& command, GenerateOptions& options) {
  std::vector<CLI::Option*> useless = add_sampling_flags(command, options);
  command.add_option("--out", options.output,
                     ".mp4, .webm, .gif, .y4m, or a folder of PNGs (default: in videos/)");
  command.add_option("--fps", options.fps, "frames per second");
  useless.push_back(
      command.add_option("--save-latents", options.save_latents, "write the sampled latents, too"));
  CLI::Option* from_latents = command.add_option("--from-latents", options.latents_file,
                                                 "decode saved latents; nothing is sampled");
  // CLI11's own excludes() would fill the help with lists of flags.
  command.callback([from_latents, useless = std::move(useless)] {
    if (from_latents->count() == 0) return;
    for (const CLI::Option* flag : useless) {
      if (flag->count() > 0) {
        throw CLI::ValidationError(flag->get_name(), "has no effect with --from-latents");
      }
    }
  });
  add_model_flags(command, options);
  command.add_flag("--quiet", options.is_quiet, "print errors only");
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
