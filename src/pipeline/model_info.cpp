// ModelInfo of include/mochi/mochi.h.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "base/error.h"
#include "io/scaled_source.h"
#include "pipeline/model_data.h"
#include "pipeline/model_warnings.h"
#include "pipeline/networks.h"
#include "pipeline/request.h"

namespace mochi {
namespace {

ModelDirectory open_directory(const EngineOptions& options) {
  check_choice("device", options.device, kDeviceKinds);
  check_choice("precision", options.precision, kPrecisions);
  check_choice("random_weights", options.random_weights, kRandomWeights);
  if (options.weights) check_choice("weights", *options.weights, kWeightFormats);
  if (options.weights == WeightFormat::kFp16) {
    refuse("weights", "fp16 is a precision of files, in memory use bf16");
  }
  if (options.random_weights == RandomWeights::kNone) {
    return ModelDirectory(options.model_dir, options.paths);
  }
  visit_paths(options.paths, [](const char* field, const std::filesystem::path& path) {
    if (!path.empty()) refuse(field, "has no effect with random weights");
  });
  if (!options.loras.empty()) refuse("loras", "has no effect with random weights");
  return ModelDirectory::with_random_weights(options.random_weights, options.model_dir);
}

void tell_notes(const ModelDirectory& directory, const MessageFn& on_message) {
  for (const std::string& note : directory.notes()) on_message(MessageLevel::kDebug, note);
  if (directory.has_random_weights()) return;
  for (const Component component : kAllComponents) {
    if (!directory.has(component)) continue;
    const std::shared_ptr<StoredSource> network = directory.stored(component);
    if (!summarise_scales(*network).has_input_scales) continue;
    on_message(
        MessageLevel::kDebug,
        fmt::format("{}: the scales of inputs are not used, because inputs are not quantised",
                    network->description()));
  }
}

// Errors of a request that leaves everything to the model are those of its file.
void check_defaults(const ModelDirectory& directory) {
  const ModelConfig& config = directory.config();
  try {
    check_request(config, make_default_request(config.generation));
  } catch (const InvalidRequest& error) {
    fail("{}: generation.{}: {}", directory.config_file().string(), error.field(), error.problem());
  }
}

}  // namespace

ModelInfo::Data::Data(const EngineOptions& options) : directory(open_directory(options)) {
  directory.validate();
  if (directory.has_config_file()) check_defaults(directory);
  if (options.on_message) tell_notes(directory, options.on_message);
  if (!options.loras.empty()) directory.require(std::array{Component::kDit}, false);
  for (const Lora& lora : options.loras) {
    const auto file = add_lora(lora.path, lora.scale, directory.config().dit, loras);
    if (std::string warning = warn_of_zero_alphas(*file); !warning.empty()) {
      lora_warnings.push_back(std::move(warning));
    }
  }
}

bool has_any(const ModelPaths& paths) {
  bool has_path = false;
  visit_paths(paths, [&has_path](const char* /*field*/, const std::filesystem::path& path) {
    has_path = has_path || !path.empty();
  });
  return has_path;
}

ModelInfo::ModelInfo(const EngineOptions& options) : data_(std::make_shared<Data>(options)) {}

GenerateRequest ModelInfo::default_request() const {
  return make_default_request(data_->directory.config().generation);
}

int ModelInfo::default_fps() const { return data_->directory.config().generation.fps; }

void ModelInfo::check(const GenerateRequest& request) const {
  check_request(data_->directory.config(), request);
}

std::vector<std::string> ModelInfo::warnings(const GenerateRequest& request) const {
  std::vector<std::string> warnings = model_warnings(data_->directory, request);
  std::ranges::copy(data_->lora_warnings, std::back_inserter(warnings));
  if (!request.sparsity) return warnings;
  std::ranges::move(sparsity_warnings(*request.sparsity, request.num_steps, num_layers(),
                                      data_->directory.config().dit.mlp_hidden_x),
                    std::back_inserter(warnings));
  return warnings;
}

void ModelInfo::check_files(const GenerateRequest& request) const {
  const ModelDirectory& directory = data_->directory;
  if (directory.has_random_weights()) return;
  std::vector<Component> needed{Component::kDit, Component::kDecoder};
  const bool has_text = !request.prompt.empty() || !request.negative_prompt.empty();
  if (has_text) needed.insert(needed.begin(), Component::kTextEncoder);
  directory.require(needed, has_text);
  if (has_text) check_weights(directory, Component::kTextEncoder);
  check_weights(directory, Component::kDit);
  check_weights(directory, Component::kDecoder);
}

Latents ModelInfo::latent_size(const VideoSize& size) const {
  return size_latents(data_->directory.config(), size);
}

VideoSize ModelInfo::video_size(const Latents& latents) const {
  return size_video(data_->directory.config(), latents);
}

int ModelInfo::num_layers() const { return static_cast<int>(data_->directory.config().dit.depth); }

std::vector<ModelFile> ModelInfo::files() const {
  std::vector<ModelFile> files;
  for (const std::filesystem::path& path : data_->directory.files()) {
    files.push_back(
        {data_->directory.name_of(path), std::filesystem::file_size(path), fingerprint_file(path)});
  }
  return files;
}

}  // namespace mochi
