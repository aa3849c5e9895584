// The model that the server serves, and JSON about it and its videos.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "job/resolve.h"
#include "server/server_options.h"
#include "server/store.h"
#include "server/video_queue.h"
#include "server/video_request.h"

namespace mochi::server {

struct ServedModel {
  std::string name;
  ModelInfo info;
  EngineOptions engine;                         // with the model's folder
  std::optional<SparsityConfig> sparsity = {};  // the bundled configuration
};

// Names of the LoRAs in a folder: its .safetensors files without their ending, sorted. An empty
// path has none.
std::vector<std::string> list_loras(const std::filesystem::path& folder);
std::filesystem::path lora_path(const std::filesystem::path& folder, const std::string& name);

// A request that is complete and checked, as it is stored with its video.
struct PlannedVideo {
  nlohmann::ordered_json request;  // all fields have a value; it can be sent again
  nlohmann::ordered_json fields;   // for answers and estimates
  Workload workload;
  std::uint64_t work = 0;
};

// Fills in the model's defaults. Throws HttpError 400 naming the field, or Error if the model's
// files are not what they should be.
PlannedVideo plan_video(const VideoRequest& request, const ServedModel& model,
                        std::uint64_t max_work);

// `live` is null if the video does not run.
nlohmann::ordered_json describe_video(const Video& video, const LiveState* live,
                                      std::optional<std::int64_t> queue_position,
                                      const Retention& keep);

nlohmann::ordered_json describe_model(const ServedModel& model, const ServerOptions& options,
                                      std::int64_t started_at);

}  // namespace mochi::server
