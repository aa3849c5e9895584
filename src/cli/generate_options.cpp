#include "cli/generate_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <iterator>
#include <utility>

#include "cli/request_flags.h"
#include "flags/byte_size.h"
#include "flags/usage_error.h"
#include "job/compute_table.h"

namespace mochi::cli {
namespace {

using job::Offer;

// Groups of the help.
constexpr const char* kSampling = "Content and sampling";
constexpr const char* kFiles = "Files and messages";
constexpr const char* kMachine = "Model and machine";

Flags add_sampling_file_flags(CLI::App& command, GenerateOptions& options) {
  CLI::Option* every = command.add_option("--checkpoint-every", options.job.checkpoint_every,
                                          "steps between two checkpoints (0: none)");
  CLI::Option* resume = command
                            .add_option("--resume", options.run.checkpoint,
                                        "continue from FILE, or from the checkpoint next to --out")
                            ->expected(0, 1);
  return {
      command
          .add_option("--save-latents", options.job.save_latents,
                      "also write the sampled latents to FILE")
          ->type_name("FILE")
          ->group(kFiles),
      command
          .add_option("--from-json", options.run.recipe, "make a video again from its JSON file")
          ->type_name("FILE")
          ->group(kFiles),
      command
          .add_option("--sweep-file", options.run.sweep_file,
                      "many videos: one JSON object per line")
          ->type_name("FILE")
          ->group(kFiles),
      every->group(kFiles),
      command
          .add_flag("--check-nan", options.job.checks_finite,
                    "find the layer that values that are not finite come from")
          ->group(kSampling),
      resume->type_name("[FILE]")->group(kFiles),
  };
}

// The first of these flags that was given; null for none.
const CLI::Option* first_given(const Flags& flags) {
  for (const CLI::Option* flag : flags) {
    if (flag->count() > 0) return flag;
  }
  return nullptr;
}

void refuse_together(const CLI::Option* flag, const CLI::Option* other) {
  if (flag->count() == 0 || other == nullptr || other->count() == 0) return;
  throw flags::UsageError(
      fmt::format("{} has no effect with {}", other->get_name(), flag->get_name()));
}

// A flag whose value is the name of an enum's value.
template <typename E>
CLI::Option* add_choice(CLI::App& command, const char* flag, E& value,
                        std::optional<E> (*parse)(std::string_view), const char* choices,
                        const char* help) {
  return command
      .add_option_function<std::string>(
          flag,
          // The value is one of the choices: read_arguments() has looked.
          [&value, parse](const std::string& text) { value = parse(text).value(); }, help)
      ->type_name(choices)
      ->group(kMachine);
}

void check_flags(const GenerateOptions& options) {
  const int every = options.job.checkpoint_every.value_or(0);
  if (every < 0) {
    throw flags::UsageError(
        fmt::format("--checkpoint-every: wanted 0 (none) or more steps, found {}", every));
  }
}

}  // namespace

void add_path_flags(CLI::App& command, ModelPaths& paths) {
  const auto add = [&command](const char* flag, std::filesystem::path& path, const char* help) {
    return command.add_option(flag, path, help)->group(kMachine);
  };
  add("--dit", paths.dit, "the transformer, instead of the model folder's")->type_name("PATH");
  add("--text-encoder", paths.text_encoder,
      "the text encoder (T5), a file or a folder, instead of the model folder's")
      ->type_name("PATH");
  add("--vae", paths.vae, "the VAE, a file or a folder, instead of the model folder's")
      ->type_name("PATH");
  add("--tokenizer", paths.tokenizer,
      "spiece.model or tokenizer.json, instead of the model folder's")
      ->type_name("FILE");
}

CLI::Option* add_weights_flag(CLI::App& command, std::optional<WeightFormat>& weights) {
  return command
      .add_option_function<std::string>(
          "--weights",
          // The value is one of the choices: read_arguments() has looked. "auto" is no format.
          [&weights](const std::string& text) { weights = parse_weight_format(text); },
          "precision of the large matrices in memory; auto: that of their file")
      ->type_name("auto|bf16|fp8|q8_0|q6_k|q5_k|q4_k|q4_0")
      ->default_str("auto");
}

CLI::Option* add_compute_flag(CLI::App& command, std::optional<ComputePlan>& plan) {
  return command
      .add_option_function<std::string>(
          "--compute",
          // The value is one of the choices: read_arguments() has looked. "auto" is no type.
          [&plan](const std::string& text) {
            if (const auto type = parse_compute_type(text)) plan = ComputePlan{.type = *type};
          },
          "type in which the transformer's linear layers multiply; auto: bf16")
      ->type_name("auto|bf16|int8|fp8")
      ->default_str("auto");
}

CLI::Option* add_compute_table_flag(CLI::App& command, std::optional<ComputePlan>& plan) {
  return command
      .add_option_function<std::string>(
          "--compute-table",
          [&command, &plan](const std::string& file) {
            refuse_together(command.get_option("--compute-table"), command.get_option("--compute"));
            plan = job::load_compute_table(file);
          },
          "types of single layers, from a JSON file such as `mochi analyze` writes")
      ->type_name("FILE");
}

CLI::Option* add_lora_flags(CLI::App& command, GenerateOptions& options) {
  CLI::Option* loras =
      command.add_option("--lora-path", options.loras, "a LoRA; may be given several times")
          ->allow_extra_args(false)
          ->type_name("FILE[:scale]")
          ->group(kMachine);
  command
      .add_flag("--cpu-offload", options.job.engine.cpu_offload,
                "keep only the network in use in memory")
      ->group(kMachine);
  add_weights_flag(command, options.job.engine.weights)->group(kMachine);
  add_compute_flag(command, options.job.engine.compute)->group(kMachine);
  add_compute_table_flag(command, options.job.engine.compute)->group(kMachine);
  return loras;
}

void take_loras(GenerateOptions& options) {
  for (const std::string& lora : options.loras) {
    options.job.engine.loras.push_back(parse_lora(lora));
  }
}

void add_output_flags(CLI::App& command, GenerateOptions& options) {
  command
      .add_option("--out", options.job.output,
                  "a .mp4, .mov, .mkv, .webm, .webp, .gif or .y4m file, or a folder of PNGs")
      ->type_name("FILE")
      ->group(kFiles);
  command.add_option("--out-dir", options.job.out_dir, "folder of videos without --out (videos/)")
      ->type_name("DIR")
      ->group(kFiles);
}

void add_report_flags(CLI::App& command, GenerateOptions& options, const char* what) {
  command.add_flag("--quiet", options.run.is_quiet, "print errors only")->group(kFiles);
  command
      .add_flag("--verbose", options.run.is_verbose, "also print details of how the engine works")
      ->group(kFiles);
  command
      .add_flag("--json", options.run.prints_json,
                fmt::format("print the {}'s JSON, not a summary", what))
      ->group(kFiles);
}

void add_engine_flags(CLI::App& command, EngineOptions& options) {
  command
      .add_option("--model-dir", options.model_dir,
                  "the model's folder (default: the small bundled one)")
      ->type_name("DIR")
      ->group(kMachine);
  add_path_flags(command, options.paths);
  add_choice(command, "--random-weights", options.random_weights, parse_random_weights,
             "mochi-1-preview|config",
             "no weight files: random weights of this size, to try a machine");
  command
      .add_option_function<std::string>(
          "--device",
          [&options](const std::string& text) {
            const std::optional<DeviceName> device = parse_device(text);
            if (!device) {
              throw flags::UsageError(fmt::format("--device: there is no '{}'", text));
            }
            options.device = device->kind;
            options.device_index = device->index;
          },
          "device that runs the networks; cuda:1 is the second GPU")
      ->type_name(kDeviceType)
      ->group(kMachine)
      ->default_str("auto");
  command
      .add_option_function<std::string>(
          "--vram-limit",
          [&options](const std::string& text) {
            options.vram_limit_bytes = flags::parse_byte_size(text, "--vram-limit");
          },
          "use at most this much GPU memory, such as 16GB (default: all)")
      ->type_name("SIZE")
      ->group(kMachine);
  add_choice(command, "--dtype", options.precision, parse_precision, "auto|fp32|bf16",
             "type of the weights in memory")
      ->default_str("auto");
  command
      .add_option("--threads", options.num_threads,
                  "number of CPU threads; 0: OMP_NUM_THREADS, or all cores")
      ->capture_default_str()
      ->group(kMachine);
}

void add_generate_flags(CLI::App& command, GenerateOptions& options) {
  Flags of_sampling = add_request_flags(command, options.job.request,
                                        {Offer::kAlways, Offer::kPerVideo, Offer::kGenerating});
  add_output_flags(command, options);
  add_request_flags(command, options.job.request, {Offer::kPlayback});
  const Flags files = add_sampling_file_flags(command, options);
  of_sampling.insert(of_sampling.end(), files.begin(), files.end());
  const CLI::Option* from_latents =
      command
          .add_option("--from-latents", options.job.latents_file, "only decode; nothing is sampled")
          ->type_name("FILE")
          ->group(kFiles);
  add_engine_flags(command, options.job.engine);
  of_sampling.push_back(add_lora_flags(command, options));
  of_sampling.push_back(command.get_option("--weights"));
  of_sampling.push_back(command.get_option("--compute"));
  of_sampling.push_back(command.get_option("--compute-table"));
  add_report_flags(command, options);
  // CLI11's own excludes() would fill the help with lists of flags.
  command.callback([&command, &options, from_latents, of_sampling] {
    const auto get = [&command](const char* name) { return command.get_option(name); };
    options.run.resumes = get("--resume")->count() > 0;
    if (options.run.checkpoint && options.run.checkpoint->empty()) options.run.checkpoint.reset();
    refuse_together(from_latents, first_given(of_sampling));
    refuse_together(get("--sweep-file"),
                    first_given({get("--out"), get("--save-latents"), get("--from-json")}));
    if (options.run.checkpoint) refuse_together(get("--sweep-file"), get("--resume"));
    refuse_together(get("--no-sparsity"), get("--chipmunk-config"));
    refuse_together(get("--resume"), get("--from-json"));
    check_flags(options);
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
    throw flags::UsageError(
        fmt::format("--lora-path: wanted FILE or FILE:scale, found '{}', whose scale would be '{}'",
                    text, number));
  }
  return {path, scale};
}

}  // namespace mochi::cli
