#include "server/video_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace mochi::server {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kLoraEnding = ".safetensors";
constexpr double kMebibyte = 1024.0 * 1024.0;

// How a sampling is made faster, for comparing times.
std::string method_of(const job::Request& request) {
  const bool is_sparse =
      request.sparsity && (request.sparsity->attn.is_enabled || request.sparsity->mlp.is_enabled);
  std::string method = "exact";
  if (request.max_evaluations) {
    method = fmt::format("{} evaluations", *request.max_evaluations);
  } else if (request.skip && *request.skip != SkipTier::kOff) {
    method = fmt::format("skip {}", name_of(*request.skip));
  }
  return is_sparse ? method + ", sparse" : method;
}

Workload workload_of(const job::Request& given, const job::Resolved& resolved) {
  const GenerateRequest& generate = resolved.generate;
  const Latents& latents = resolved.latents;
  const bool is_guided = generate.cfg_scale != 1 || !generate.cfg_schedule.empty();
  return {.num_latents = latents.num_frames * latents.height * latents.width,
          .num_steps = generate.num_steps,
          .num_branches = is_guided ? 2 : 1,
          .method = method_of(given)};
}

// Fields that follow from others stay as they were given, so that the request can be sent again
// with changes.
VideoRequest complete_request(const VideoRequest& given, const job::Resolved& resolved) {
  VideoRequest complete = given;
  complete.request = resolved.request;
  complete.request.linear_steps = given.request.linear_steps;
  complete.request.skip = given.request.skip;
  complete.request.max_evaluations = given.request.max_evaluations;
  complete.request.sparsity = given.request.sparsity;
  complete.request.no_sparsity = given.request.no_sparsity;
  return complete;
}

OrderedJson null_if_empty(const std::string& text) {
  return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
}

// Percent for the API's `progress`.
int percent_of(const Video& video, const LiveState* live) {
  constexpr int kDone = 100;
  if (video.status == VideoStatus::kCompleted) return kDone;
  return live == nullptr ? 0 : live->progress;
}

int num_steps_done(const Video& video, const LiveState* live, int num_steps) {
  if (video.status == VideoStatus::kCompleted) return num_steps;
  return live == nullptr ? 0 : live->step;
}

void add_result(OrderedJson& json, const Video& video) {
  for (const char* key : {"inference_time_s", "stage_durations", "peak_memory_mb"}) {
    json[key] = nullptr;
  }
  if (video.result.empty()) return;
  const Json result = Json::parse(video.result);
  json["inference_time_s"] = result.value("total_seconds", 0.0);
  json["stage_durations"] = OrderedJson::parse(result.value("seconds", Json::object()).dump());
  const std::uint64_t device_bytes = result.value("peak_device_bytes", std::uint64_t{0});
  const std::uint64_t host_bytes = result.value("peak_memory_bytes", std::uint64_t{0});
  const std::uint64_t peak = device_bytes > 0 ? device_bytes : host_bytes;
  json["peak_memory_mb"] = static_cast<std::int64_t>(static_cast<double>(peak) / kMebibyte);
}

void add_live(OrderedJson& json, const LiveState* live) {
  json["phase"] = live == nullptr ? OrderedJson(nullptr) : OrderedJson(live->phase);
  json["seconds_left"] = nullptr;
  if (live != nullptr && live->seconds_left) json["seconds_left"] = *live->seconds_left;
}

}  // namespace

std::vector<std::string> list_loras(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  if (folder.empty()) return names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const fs::path& path = entry.path();
    if (path.extension() == kLoraEnding && entry.is_regular_file(error)) {
      names.push_back(path.stem().string());
    }
  }
  std::ranges::sort(names);
  return names;
}

fs::path lora_path(const fs::path& folder, const std::string& name) {
  return folder / (name + kLoraEnding);
}

PlannedVideo plan_video(const VideoRequest& request, const ServedModel& model,
                        std::uint64_t max_work) {
  job::JobOptions options;
  options.request = request.request;
  options.engine = model.engine;
  job::Resolved resolved;
  try {
    resolved = job::resolve(options, model.info);
  } catch (const InvalidRequest& error) {
    throw to_http_error(error, request);
  }
  const GenerateRequest& generate = resolved.generate;
  if (max_work > 0) check_work(generate, max_work);
  PlannedVideo plan{.request = to_json(complete_request(request, resolved)),
                    .fields = {},
                    .workload = workload_of(request.request, resolved),
                    .work = work_of(generate)};
  const double fps = resolved.request.fps.value_or(FrameRate{}).value();
  plan.fields = {{"model", model.name},
                 {"seconds", fmt::format("{:.1f}", generate.num_frames / fps)},
                 {"size", fmt::format("{}x{}", generate.width, generate.height)},
                 {"num_steps", generate.num_steps},
                 {"num_latents", plan.workload.num_latents},
                 {"num_branches", plan.workload.num_branches},
                 {"method", plan.workload.method}};
  return plan;
}

OrderedJson describe_video(const Video& video, const LiveState* live,
                           std::optional<std::int64_t> queue_position, const Retention& keep) {
  const OrderedJson request = OrderedJson::parse(video.request);
  const OrderedJson fields = OrderedJson::parse(video.fields);
  OrderedJson json{{"id", video.id},
                   {"object", "video"},
                   {"model", fields.at("model")},
                   {"status", name_of(video.status)},
                   {"progress", percent_of(video, live)},
                   {"created_at", video.created_at},
                   {"completed_at", nullptr},
                   {"expires_at", nullptr},
                   {"prompt", request.value("prompt", "")},
                   {"seconds", fields.at("seconds")},
                   {"size", fields.at("size")},
                   {"remixed_from_video_id", null_if_empty(video.remixed_from)},
                   {"error", nullptr},
                   {"request", request},
                   {"queue_position", nullptr},
                   {"step", num_steps_done(video, live, fields.at("num_steps"))},
                   {"num_steps", fields.at("num_steps")}};
  if (video.completed_at) {
    json["completed_at"] = *video.completed_at;
    if (keep.max_seconds > 0) json["expires_at"] = *video.completed_at + keep.max_seconds;
  }
  if (video.error) {
    json["error"] = {{"code", video.error->code}, {"message", video.error->message}};
  }
  if (queue_position) json["queue_position"] = *queue_position;
  add_live(json, live);
  add_result(json, video);
  return json;
}

OrderedJson describe_model(const ServedModel& model, const ServerOptions& options,
                           std::int64_t started_at) {
  const GenerateRequest defaults = model.info.default_request();
  OrderedJson json{{"id", model.name},
                   {"object", "model"},
                   {"created", started_at},
                   {"owned_by", "mochi.cpp"},
                   {"defaults",
                    {{"prompt", defaults.prompt},
                     {"negative_prompt", defaults.negative_prompt},
                     {"width", defaults.width},
                     {"height", defaults.height},
                     {"num_frames", defaults.num_frames},
                     {"num_steps", defaults.num_steps},
                     {"cfg_scale", defaults.cfg_scale},
                     {"fps", model.info.default_fps()},
                     {"threshold_noise", defaults.threshold_noise},
                     {"linear_steps", defaults.linear_steps},
                     {"noise_source", name_of(defaults.noise_source)}}},
                   {"sizes", {{"multiple", 16}}},
                   {"frames", {{"multiple", 6}, {"plus", 1}}},
                   {"limits",
                    {{"max_work", nullptr},
                     {"max_prompt_length", options.max_prompt_length},
                     {"max_queue", options.max_queue},
                     {"max_queue_per_key", options.max_queue_per_key}}},
                   {"loras", list_loras(options.lora_dir)},
                   {"sparsity", nullptr}};
  if (options.max_work > 0) json["limits"]["max_work"] = options.max_work;
  if (model.sparsity) json["sparsity"] = OrderedJson::parse(to_json(*model.sparsity));
  return json;
}

}  // namespace mochi::server
