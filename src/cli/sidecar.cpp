#include "cli/sidecar.h"

namespace mochi::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

OrderedJson describe_file(const fs::path& path) {
  return {{"path", fs::absolute(path).lexically_normal().string()},
          {"size_bytes", fs::file_size(path)},
          {"fingerprint", fingerprint_file(path)}};
}

OrderedJson describe_request(const Outcome& outcome) {
  const GenerateRequest& request = outcome.request;
  OrderedJson json{{"prompt", request.prompt},         {"negative_prompt", request.negative_prompt},
                   {"width", request.width},           {"height", request.height},
                   {"num_frames", request.num_frames}, {"num_steps", request.num_steps}};
  if (request.cfg_schedule.empty()) {
    json["cfg_scale"] = request.cfg_scale;
  } else {
    json["cfg_schedule"] = request.cfg_schedule;
  }
  json["threshold_noise"] = request.threshold_noise;
  json["linear_steps"] = request.linear_steps > 0 ? request.linear_steps : request.num_steps / 2;
  if (outcome.noise_file) {
    json["noise"] = describe_file(*outcome.noise_file);
  } else {
    json["seed"] = request.seed;
    json["noise_source"] = name_of(request.noise_source);
  }
  if (request.sparsity) json["sparsity"] = OrderedJson::parse(to_json(*request.sparsity));
  return json;
}

OrderedJson describe_model(const Outcome& outcome, const Engine& engine) {
  OrderedJson files = OrderedJson::array();
  for (const ModelFile& file : engine.model().files()) {
    files.push_back(
        {{"name", file.name}, {"size_bytes", file.size_bytes}, {"fingerprint", file.fingerprint}});
  }
  OrderedJson loras = OrderedJson::array();
  for (const Lora& lora : outcome.loras) {
    OrderedJson described = describe_file(lora.path);
    described["scale"] = lora.scale;
    loras.push_back(described);
  }
  const fs::path& dir = outcome.model_dir;
  OrderedJson json{{"dir", dir.empty() ? "" : fs::absolute(dir).lexically_normal().string()}};
  if (outcome.random_weights != RandomWeights::kNone) {
    json["random_weights"] = name_of(outcome.random_weights);
  }
  json["files"] = files;
  json["loras"] = loras;
  return json;
}

}  // namespace

OrderedJson describe_recipe(const Outcome& outcome, const Engine& engine) {
  OrderedJson json{{"made_by", "mochi.cpp"}, {"version", version()}};
  json["video"] = {{"file", outcome.output.string()},
                   {"width", outcome.size.width},
                   {"height", outcome.size.height},
                   {"num_frames", outcome.size.num_frames},
                   {"fps", outcome.fps}};
  if (outcome.latents_file) {
    json["latents"] = describe_file(*outcome.latents_file);
  } else {
    json["request"] = describe_request(outcome);
  }
  json["model"] = describe_model(outcome, engine);
  const EngineInfo info = engine.info();
  json["engine"] = {{"device", name_of(info.device)},
                    {"device_name", info.device_name},
                    {"dtype", name_of(info.precision)},
                    {"num_threads", info.num_threads}};
  return json;
}

OrderedJson describe_outcome(const Outcome& outcome, const Engine& engine) {
  OrderedJson json = describe_recipe(outcome, engine);
  OrderedJson seconds;
  for (const auto& [phase, value] : outcome.seconds) seconds[std::string(name_of(phase))] = value;
  seconds["total"] = outcome.total_seconds;
  json["seconds"] = seconds;
  json["peak_memory_bytes"] = outcome.peak_memory_bytes;
  const std::uint64_t device_bytes = engine.info().peak_device_bytes;
  if (device_bytes > 0) json["peak_device_bytes"] = device_bytes;
  return json;
}

}  // namespace mochi::cli
