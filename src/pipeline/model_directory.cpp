#include "pipeline/model_directory.h"

#include <fmt/format.h>

#include <array>
#include <set>
#include <utility>

#include "base/error.h"
#include "pipeline/hub_cache.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "config.json";
constexpr std::array kTokenizerPlaces{"tokenizer/spiece.model", "spiece.model",
                                      "text_encoder/spiece.model"};

std::string places_searched(const fs::path& folder) {
  return fmt::format("'{}' and its folders text_encoder, transformer and vae", folder.string());
}

template <typename... Args>
[[noreturn]] void fail_missing(const fs::path& folder, fmt::format_string<Args...> format,
                               Args&&... args) {
  throw ModelMissing(fmt::format(format, std::forward<Args>(args)...), folder.string());
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

ModelDirectory::ModelDirectory(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (!fs::exists(path_, ignored))
    fail_missing(path_, "model folder '{}' does not exist", path_.string());
  if (!fs::is_directory(path_, ignored)) fail("model folder '{}' is not a folder", path_.string());
  root_ = resolve_hub_cache(path_);
  files_ = find_model_files(root_);
  read_config();
}

ModelDirectory ModelDirectory::with_random_weights(RandomWeights kind, const fs::path& path) {
  ModelDirectory directory;
  directory.has_random_weights_ = true;
  if (kind == RandomWeights::kConfig) {
    directory.path_ = path;
    directory.root_ = path;
    directory.config_ = read_model_config(path / kConfigName);
    directory.has_config_file_ = true;
  }
  return directory;
}

void ModelDirectory::read_config() {
  const fs::path config_path = root_ / kConfigName;
  has_config_file_ = fs::exists(config_path) && is_model_config(config_path);
  if (has_config_file_) {
    config_ = read_model_config(config_path);
    return;
  }
  try {
    infer_config();
  } catch (const Error& error) {
    fail("model folder '{}' has no config.json, and its tensors do not show its sizes: {}",
         path_.string(), error.what());
  }
}

void ModelDirectory::infer_config() {
  if (has(Component::kTextEncoder)) {
    config_.text_encoder = infer_text_encoder_config(*stored(Component::kTextEncoder));
  }
  if (has(Component::kDit)) config_.dit = infer_dit_config(*open(Component::kDit));
  const auto decoder = has(Component::kDecoder) ? open(Component::kDecoder) : nullptr;
  const auto encoder = has(Component::kEncoder) ? open(Component::kEncoder) : nullptr;
  if (decoder || encoder) config_.vae = infer_vae_config(decoder.get(), encoder.get());
}

std::string ModelDirectory::problem(Component component) const {
  const auto found = files_.problems.find(component);
  return found == files_.problems.end() ? "" : found->second;
}

std::shared_ptr<StoredSource> ModelDirectory::stored(Component component) const {
  const auto found = files_.networks.find(component);
  if (found != files_.networks.end()) return found->second;
  if (const std::string reason = problem(component); !reason.empty()) throw Error(reason);
  fail_missing(path_, "no {} found: looked for {} in {}{}", component_name(component),
               component_place(component), places_searched(root_), unfinished_download(root_));
}

void ModelDirectory::require(std::span<const Component> components, bool needs_tokenizer) const {
  std::vector<Component> missing;
  for (const Component component : components) {
    if (has(component)) continue;
    if (!problem(component).empty()) throw Error(problem(component));
    missing.push_back(component);
  }
  const bool has_no_tokenizer = needs_tokenizer && !has_random_weights_ && !find_tokenizer();
  if (missing.empty() && has_no_tokenizer) tokenizer();
  if (missing.size() == 1 && !has_no_tokenizer) stored(missing.front());
  if (missing.empty()) return;
  std::vector<std::string> lines;
  lines.reserve(missing.size() + 1);
  for (const Component component : missing) {
    lines.push_back(
        fmt::format("the {} ({})", component_name(component), component_place(component)));
  }
  if (has_no_tokenizer) lines.push_back(fmt::format("the tokenizer ({})", kTokenizerPlaces[0]));
  fail_missing(path_, "model folder '{}' lacks {}{}", path_.string(), fmt::join(lines, ", and "),
               unfinished_download(root_));
}

void ModelDirectory::validate() const {
  const bool has_text = has_config_file_ || has(Component::kTextEncoder);
  const bool has_dit = has_config_file_ || has(Component::kDit);
  const bool has_vae = has_config_file_ || has(Component::kDecoder) || has(Component::kEncoder);
  if (has_text && has_dit) config_.check_text_width();
  if (has_vae && has_dit) config_.check_latent_channels();
}

std::shared_ptr<TensorSource> ModelDirectory::open(Component component) const {
  return with_original_keys(stored(component), component, config_.text_encoder);
}

std::optional<fs::path> ModelDirectory::find_tokenizer() const {
  if (root_.empty()) return std::nullopt;
  for (const char* place : kTokenizerPlaces) {
    fs::path path = root_ / place;
    if (fs::exists(path)) return path;
  }
  return std::nullopt;
}

fs::path ModelDirectory::tokenizer() const {
  if (const auto path = find_tokenizer()) return *path;
  fail_missing(path_, "no tokenizer found: looked for '{}' in '{}'",
               fmt::join(kTokenizerPlaces, "', '"), root_.string());
}

std::vector<fs::path> ModelDirectory::files() const {
  std::set<fs::path> files;
  for (const auto& [component, network] : files_.networks) {
    for (const fs::path& file : network->files()) files.insert(file);
  }
  if (const auto path = find_tokenizer()) files.insert(*path);
  if (has_config_file_) files.insert(root_ / kConfigName);
  return {files.begin(), files.end()};
}

}  // namespace mochi
