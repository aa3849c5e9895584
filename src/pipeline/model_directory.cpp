#include "pipeline/model_directory.h"

#include <fmt/format.h>

#include <array>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "pipeline/hub_cache.h"
#include "pipeline/model_candidates.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "config.json";
// Names of the tokenizer, and the folders that it may be in.
constexpr std::array kTokenizerNames{"spiece.model", "tokenizer.json"};
constexpr std::array kTokenizerFolders{"tokenizer", "", "text_encoder", "text_encoders", "clip"};

std::string places_searched(const fs::path& folder) {
  return fmt::format("'{}', and in its folders of diffusers' and ComfyUI's names", folder.string());
}

// A part that is missing, the field of ModelPaths that can name it, and where it belongs.
struct PartInfo {
  const char* field;
  const char* name;
  const char* place;
};

PartInfo describe_part(ModelPart part) {
  switch (part) {
    case ModelPart::kTextEncoder:
      return {"text_encoder", "text encoder", component_place(Component::kTextEncoder)};
    case ModelPart::kTransformer:
      return {"dit", "transformer", component_place(Component::kDit)};
    case ModelPart::kVideoDecoder:
      return {"vae", "video decoder", component_place(Component::kDecoder)};
    case ModelPart::kVideoEncoder:
      return {"vae", "video encoder", component_place(Component::kEncoder)};
    case ModelPart::kTokenizer:
      return {"tokenizer", "tokenizer", "tokenizer/spiece.model or tokenizer.json"};
  }
  return {};
}

// ": a download ... did not finish", if one of huggingface_hub's lies in the folder.
std::string unfinished_download(const fs::path& folder) {
  const fs::path cache = folder / ".cache" / "huggingface" / "download";
  std::error_code error;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(cache, error)) {
    if (entry.path().extension() != ".incomplete") continue;
    return fmt::format("; a download did not finish: '{}'", entry.path().string());
  }
  return "";
}

}  // namespace

ModelDirectory::ModelDirectory(fs::path path, ModelPaths paths)
    : path_(std::move(path)), paths_(std::move(paths)) {
  if (!path_.empty() || !has_any(paths_)) {
    std::error_code ignored;
    if (!fs::exists(path_, ignored)) {
      throw ModelMissing(fmt::format("model folder '{}' does not exist", path_.string()),
                         path_.string());
    }
    if (!fs::is_directory(path_, ignored))
      fail("model folder '{}' is not a folder", path_.string());
    root_ = resolve_hub_cache(path_);
    files_ = find_model_files(root_);
  }
  replace_parts();
  read_config();
}

ModelDirectory ModelDirectory::with_random_weights(RandomWeights kind, const fs::path& path) {
  ModelDirectory directory;
  directory.has_random_weights_ = true;
  if (kind == RandomWeights::kConfig) {
    directory.path_ = path;
    directory.root_ = path;
    directory.config_file_ = path / kConfigName;
    directory.config_ = read_model_config(directory.config_file_);
  }
  return directory;
}

void ModelDirectory::replace_parts() {
  const auto replace = [this](const char* field, const fs::path& path,
                              std::initializer_list<Component> components) {
    if (!path.empty()) replace_networks(field, path, components, files_);
  };
  replace("dit", paths_.dit, {Component::kDit});
  replace("text_encoder", paths_.text_encoder, {Component::kTextEncoder});
  replace("vae", paths_.vae, {Component::kDecoder, Component::kEncoder});
  if (!paths_.tokenizer.empty() && !fs::is_regular_file(paths_.tokenizer)) {
    refuse("tokenizer", "wanted a file, found {} '{}'", describe_file_kind(paths_.tokenizer),
           paths_.tokenizer.string());
  }
}

fs::path ModelDirectory::find_config_file() const {
  std::vector<fs::path> folders{root_};
  if (root_.empty()) {
    folders = {model_folder_of(paths_.dit), model_folder_of(paths_.vae),
               model_folder_of(paths_.text_encoder)};
  }
  for (const fs::path& folder : folders) {
    if (!folder.empty() && fs::exists(folder / kConfigName)) return folder / kConfigName;
  }
  return {};
}

void ModelDirectory::read_config() {
  const fs::path config_file = find_config_file();
  if (!config_file.empty() && is_model_config(config_file)) {
    config_file_ = config_file;
    config_ = read_model_config(config_file_);
    return;
  }
  infer_config();
}

template <typename SetSizes>
void ModelDirectory::infer_sizes(std::initializer_list<Component> components,
                                 const SetSizes& set_sizes) {
  try {
    set_sizes();
  } catch (const Error& error) {
    for (const Component component : components) {
      if (files_.networks.erase(component) == 0) continue;
      files_.problems[component] = fmt::format(
          "{} no config.json, and its tensors do not show its sizes: {}",
          path_.empty() ? "the model has" : fmt::format("model folder '{}' has", path_.string()),
          error.what());
    }
  }
}

void ModelDirectory::infer_config() {
  infer_sizes({Component::kTextEncoder}, [this] {
    if (!has(Component::kTextEncoder)) return;
    const auto network = stored(Component::kTextEncoder);
    config_.text_encoder = infer_component_config(network, Component::kTextEncoder).text_encoder;
  });
  infer_sizes({Component::kDit}, [this] {
    if (has(Component::kDit)) config_.dit = infer_dit_config(*open(Component::kDit));
  });
  infer_sizes({Component::kDecoder, Component::kEncoder}, [this] {
    const auto decoder = has(Component::kDecoder) ? open(Component::kDecoder) : nullptr;
    const auto encoder = has(Component::kEncoder) ? open(Component::kEncoder) : nullptr;
    if (decoder || encoder) config_.vae = infer_vae_config(decoder.get(), encoder.get());
  });
}

std::string ModelDirectory::problem(Component component) const {
  const auto found = files_.problems.find(component);
  return found == files_.problems.end() ? "" : found->second;
}

std::string ModelDirectory::bystander(Component component) const {
  const auto found = files_.bystanders.find(component);
  return found == files_.bystanders.end() ? "" : found->second;
}

std::shared_ptr<StoredSource> ModelDirectory::stored(Component component) const {
  const auto found = files_.networks.find(component);
  if (found != files_.networks.end()) return found->second;
  if (const std::string reason = problem(component); !reason.empty()) throw Error(reason);
  fail_missing({part_of(component)});
}

void ModelDirectory::fail_missing(const std::set<ModelPart>& parts) const {
  const PartInfo first = describe_part(*parts.begin());
  if (path_.empty()) {
    refuse(first.field, "is needed, or a model folder that has the {}", first.name);
  }
  std::string more = unfinished_download(root_);
  for (const Component component : kAllComponents) {
    const std::string reason = parts.contains(part_of(component)) ? bystander(component) : "";
    if (reason.empty()) continue;
    more += fmt::format("; a file that may be the {} cannot be used: {}", component_name(component),
                        reason);
    break;
  }
  if (parts.size() == 1) {
    throw ModelMissing(fmt::format("no {} found: looked for {} in {}{}", first.name, first.place,
                                   places_searched(root_), more),
                       root_.string(), parts);
  }
  std::vector<std::string> lines;
  lines.reserve(parts.size());
  for (const ModelPart part : parts) {
    const PartInfo info = describe_part(part);
    lines.push_back(fmt::format("the {} ({})", info.name, info.place));
  }
  throw ModelMissing(
      fmt::format("model folder '{}' lacks {}{}", path_.string(), fmt::join(lines, ", and "), more),
      root_.string(), parts);
}

void ModelDirectory::require(std::span<const Component> components, bool needs_tokenizer) const {
  std::set<ModelPart> missing;
  for (const Component component : components) {
    if (has(component)) continue;
    if (!problem(component).empty()) throw Error(problem(component));
    missing.insert(part_of(component));
  }
  if (needs_tokenizer && !has_random_weights_ && !find_tokenizer()) {
    missing.insert(ModelPart::kTokenizer);
  }
  if (!missing.empty()) fail_missing(missing);
}

void ModelDirectory::validate() const {
  const bool has_text = has_config_file() || has(Component::kTextEncoder);
  const bool has_dit = has_config_file() || has(Component::kDit);
  const bool has_vae = has_config_file() || has(Component::kDecoder) || has(Component::kEncoder);
  if (has_text && has_dit) config_.check_text_width();
  if (has_vae && has_dit) config_.check_latent_channels();
}

std::shared_ptr<TensorSource> ModelDirectory::open(Component component) const {
  return with_original_keys(stored(component), component, config_.text_encoder);
}

// In the order of preference.
std::vector<fs::path> ModelDirectory::tokenizer_places() const {
  std::vector<fs::path> places;
  if (!paths_.tokenizer.empty()) return {paths_.tokenizer};
  const auto add = [&places](const fs::path& folder) {
    if (folder.empty()) return;
    for (const char* name : kTokenizerNames) {
      for (const char* inner : kTokenizerFolders) places.push_back(folder / inner / name);
    }
  };
  add(root_);
  if (!root_.empty()) add(root_ / "models");
  add(model_folder_of(paths_.text_encoder));
  return places;
}

std::optional<fs::path> ModelDirectory::find_tokenizer() const {
  for (const fs::path& place : tokenizer_places()) {
    std::error_code ignored;
    if (fs::exists(place, ignored)) return place;
  }
  return std::nullopt;
}

fs::path ModelDirectory::tokenizer() const {
  if (const auto path = find_tokenizer()) return *path;
  fail_missing({ModelPart::kTokenizer});
}

std::vector<fs::path> ModelDirectory::files() const {
  std::set<fs::path> files;
  for (const auto& [component, network] : files_.networks) {
    for (const fs::path& file : network->files()) files.insert(file);
  }
  if (const auto path = find_tokenizer()) files.insert(*path);
  if (has_config_file()) files.insert(config_file_);
  return {files.begin(), files.end()};
}

std::string ModelDirectory::name_of(const fs::path& file) const {
  const fs::path relative = path_.empty() ? fs::path() : file.lexically_relative(path_);
  const bool is_inside = !relative.empty() && *relative.begin() != "..";
  return (is_inside ? relative : fs::absolute(file).lexically_normal()).string();
}

}  // namespace mochi
