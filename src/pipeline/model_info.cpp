// ModelInfo of include/mochi/mochi.h.
#include "base/error.h"
#include "pipeline/model_data.h"
#include "pipeline/networks.h"
#include "pipeline/request.h"

namespace mochi {
namespace {

ModelDirectory open_directory(const EngineOptions& options) {
  if (options.random_weights == RandomWeights::kNone) return ModelDirectory(options.model_dir);
  if (!options.loras.empty()) refuse("loras", "have no effect on random weights");
  return ModelDirectory::with_random_weights(options.random_weights, options.model_dir);
}

}  // namespace

ModelInfo::Data::Data(const EngineOptions& options) : directory(open_directory(options)) {
  directory.config().validate();
  for (const Lora& lora : options.loras) {
    add_lora(lora.path, lora.scale, directory.config().dit, loras);
  }
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
  return find_warnings(data_->directory.config(), request);
}

void ModelInfo::check_files(const GenerateRequest& request) const {
  const ModelDirectory& directory = data_->directory;
  if (directory.has_random_weights()) return;
  if (!request.prompt.empty() || !request.negative_prompt.empty()) {
    directory.tokenizer();
    check_weights(directory, Component::kTextEncoder);
  }
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
    files.push_back({std::filesystem::relative(path, data_->directory.path()).string(),
                     std::filesystem::file_size(path), fingerprint_file(path)});
  }
  return files;
}

}  // namespace mochi
