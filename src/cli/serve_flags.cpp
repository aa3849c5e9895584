#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <string_view>

#include "cli/generate_options.h"
#include "cli/serve.h"
#include "flags/byte_size.h"
#include "flags/usage_error.h"

namespace mochi::cli {
namespace {

using server::ServerOptions;

// Groups of the help.
constexpr const char* kNetwork = "Network and keys";
constexpr const char* kVideos = "Videos and queue";
constexpr const char* kServeMachine = "Model and machine";  // as of other commands

// "30d": days; anything else is a size.
void set_keep(server::Retention& keep, const std::string& text) {
  constexpr std::int64_t kSecondsPerDay = 24 * 60 * 60;
  constexpr std::int64_t kMostDays = 100'000;
  const auto refuse = [&text] {
    throw flags::UsageError(
        fmt::format("--keep: wanted days or a size, such as 30d or 100GB, found '{}'", text));
  };
  if (!text.ends_with('d')) {
    try {
      keep.max_bytes = flags::parse_byte_size(text, "--keep");
    } catch (const flags::UsageError&) {
      refuse();
    }
    return;
  }
  std::int64_t days = 0;
  const char* const number_end = text.data() + text.size() - 1;
  const auto [end, error] = std::from_chars(text.data(), number_end, days);
  if (error != std::errc() || end != number_end || days < 1 || days > kMostDays) refuse();
  keep.max_seconds = days * kSecondsPerDay;
}

void add_network_flags(CLI::App& command, ServerOptions& options) {
  command.add_option("--host", options.host, "address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(kNetwork);
  command.add_option("--port", options.port, "port to listen on; 0: a free one")
      ->capture_default_str()
      ->group(kNetwork);
  command
      .add_option("--api-keys", options.api_keys,
                  "file with the keys that clients must have, one per line: KEY or NAME: KEY")
      ->type_name("FILE")
      ->group(kNetwork);
  command
      .add_flag("--no-auth", options.has_no_auth, "accept clients of other machines without a key")
      ->group(kNetwork);
  command.add_option("--max-connections", options.max_connections, "open connections at most")
      ->capture_default_str()
      ->group(kNetwork);
  command
      .add_option_function<std::string>(
          "--max-body",
          [&options](const std::string& text) {
            options.max_body_bytes = flags::parse_byte_size(text, "--max-body");
          },
          "largest body of a request (default: 1MiB)")
      ->type_name("SIZE")
      ->group(kNetwork);
}

void add_video_flags(CLI::App& command, ServerOptions& options) {
  command
      .add_option("--data-dir", options.data_dir,
                  "folder of the videos and of the queue; it is created")
      ->type_name("DIR")
      ->default_str("mochi-data")
      ->group(kVideos);
  command
      .add_option_function<std::vector<std::string>>(
          "--keep",
          [&options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) set_keep(options.keep, text);
          },
          "delete finished videos after so many days (30d), or the oldest when all take more than "
          "a size (100GB); may be given twice (default: keep all)")
      ->allow_extra_args(false)
      ->type_name("DAYS or SIZE")
      ->group(kVideos);
  command.add_option("--max-queue", options.max_queue, "videos that may wait")
      ->capture_default_str()
      ->group(kVideos);
  command
      .add_option("--max-queue-per-key", options.max_queue_per_key,
                  "videos of one key that may wait; 0: half of --max-queue if there are several "
                  "keys, else all")
      ->capture_default_str()
      ->group(kVideos);
  command
      .add_option("--max-work", options.max_work,
                  "largest width x height x frames x steps of a video; 0: no limit")
      ->type_name("UINT")
      ->capture_default_str()
      ->group(kVideos);
  command
      .add_option("--max-prompt-length", options.max_prompt_length,
                  "characters of a prompt at most")
      ->type_name("UINT")
      ->capture_default_str()
      ->group(kVideos);
  command
      .add_option("--checkpoint-every", options.checkpoint_every,
                  "steps between two checkpoints, from which a killed server continues; 0: none")
      ->capture_default_str()
      ->group(kVideos);
}

void add_machine_flags(CLI::App& command, ServerOptions& options) {
  add_engine_flags(command, options.engine);
  command
      .add_flag("--cpu-offload", options.engine.cpu_offload,
                "keep only the network in use in memory")
      ->group(kServeMachine);
  add_weights_flag(command, options.engine.weights)->group(kServeMachine);
  add_compute_flag(command, options.engine.compute)->group(kServeMachine);
  add_compute_table_flag(command, options.engine.compute)->group(kServeMachine);
  command
      .add_option("--model-name", options.model_name,
                  "name of the model for clients (default: that of its folder)")
      ->type_name("NAME")
      ->group(kServeMachine);
  command
      .add_option(
          "--lora-dir", options.lora_dir,
          "folder of LoRAs that clients may use: by the names of the files without .safetensors")
      ->type_name("DIR")
      ->group(kServeMachine);
  command.add_option("--gpus", options.gpus, "GPUs that make one video each at a time: 0,1")
      ->delimiter(',')
      ->type_name("INT,...")
      ->group(kServeMachine);
  command
      .add_option("--idle-unload", options.idle_unload_minutes,
                  "minutes without a video after which the model is unloaded; 0: never")
      ->capture_default_str()
      ->group(kServeMachine);
}

void check_range(const char* flag, std::int64_t value, std::int64_t min, std::int64_t max) {
  if (value >= min && value <= max) return;
  throw flags::UsageError(fmt::format("{}: wanted {} to {}, found {}", flag, min, max, value));
}

void check_flags(const ServerOptions& options) {
  constexpr std::int64_t kMost = 1'000'000;
  constexpr std::int64_t kMostPort = 65'535;
  check_range("--port", options.port, 0, kMostPort);
  check_range("--max-connections", options.max_connections, 1, kMost);
  check_range("--max-queue", options.max_queue, 1, kMost);
  check_range("--max-queue-per-key", options.max_queue_per_key, 0, kMost);
  check_range("--checkpoint-every", options.checkpoint_every, 0, kMost);
  check_range("--idle-unload", options.idle_unload_minutes, 0, kMost);
  for (const int gpu : options.gpus) {
    check_range("--gpus", gpu, 0, kMost);
    if (std::ranges::count(options.gpus, gpu) > 1) {
      throw flags::UsageError(fmt::format("--gpus: {} occurs twice", gpu));
    }
  }
  if (!options.gpus.empty() && options.engine.device == DeviceKind::kCpu) {
    throw flags::UsageError("--gpus has no effect with --device cpu");
  }
  if (!options.gpus.empty() && options.engine.device_index > 0) {
    throw flags::UsageError("--gpus and a number in --device exclude each other");
  }
}

}  // namespace

void add_serve_flags(CLI::App& command, ServeOptions& options) {
  add_network_flags(command, options.server);
  add_video_flags(command, options.server);
  add_machine_flags(command, options.server);
  command.callback([&options] { check_flags(options.server); });
}

}  // namespace mochi::cli
