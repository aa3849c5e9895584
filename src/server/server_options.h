// The settings of `mochi serve`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mochi/mochi.h"

namespace mochi::server {

// Finished videos beyond this are deleted, the oldest first. Zero: no limit.
struct Retention {
  std::int64_t max_seconds = 0;
  std::uint64_t max_bytes = 0;
};

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8188;  // 0: a free one
  std::filesystem::path data_dir = "mochi-data";
  std::filesystem::path api_keys = {};       // empty: none
  bool has_no_auth = false;                  // beyond loopback without keys
  std::string model_name = {};               // empty: the name of the model's folder
  std::filesystem::path lora_dir = {};       // empty: no LoRAs
  std::vector<int> gpus = {};                // one worker each; empty: one worker that chooses
  int max_queue = 100;                       // videos that wait
  int max_queue_per_key = 0;                 // 0: half of max_queue if there are several keys
  std::uint64_t max_work = 0;                // width · height · num_frames · num_steps; 0: no limit
  std::size_t max_prompt_length = 4000;      // characters
  std::uint64_t max_body_bytes = 1U << 20U;  // largest body of a request
  int max_connections = 1024;
  Retention keep = {};
  int idle_unload_minutes = 30;  // 0: never
  int checkpoint_every = 10;     // steps
  EngineOptions engine = {};
};

using LogFn = std::function<void(std::string_view line)>;

}  // namespace mochi::server
