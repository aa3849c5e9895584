// Finds the networks in a model directory. Every layout in use is recognised: files are told apart
// by the tensors they hold, names only decide between several files that would do.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "mochi/enums.h"
#include "pipeline/model_config.h"

namespace mochi {

enum class Component : std::uint8_t { kTextEncoder, kDit, kDecoder, kEncoder };

inline constexpr std::array kAllComponents{Component::kTextEncoder, Component::kDit,
                                           Component::kDecoder, Component::kEncoder};

// "transformer", as messages call it.
const char* component_name(Component component);

// Whether networks of a model directory may lie in a folder of this name inside it.
bool is_model_subfolder(const std::string& name);

// Whether these tensors are such a network, under the original names or diffusers'.
bool holds_component(const TensorSource& source, Component component);

// A checkpoint under the names the engine's weights structs use.
std::shared_ptr<TensorSource> with_original_keys(std::shared_ptr<TensorSource> source,
                                                 Component component,
                                                 const TextEncoderConfig& text_config);

// The sizes that a network's tensors show, in the section that is its own.
ModelConfig infer_component_config(const std::shared_ptr<TensorSource>& source,
                                   Component component);

class ModelDirectory {
 public:
  // Reads the headers of all files. Throws Error when there is no such folder, a file is damaged,
  // or two files with equal right hold the same network.
  explicit ModelDirectory(std::filesystem::path path);
  // Every network, with random weights, of the sizes in path's config.json (kConfig; with the
  // tokenizer in `path` if there is one) or of Mochi 1 preview's sizes.
  static ModelDirectory with_random_weights(RandomWeights kind, const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const ModelConfig& config() const { return config_; }
  // Whether the sizes come from a config.json, not from the tensors' shapes.
  bool has_config_file() const { return has_config_file_; }

  bool has_random_weights() const { return has_random_weights_; }
  bool has(Component component) const {
    return has_random_weights_ || checkpoints_.contains(component);
  }
  // As stored. Throws Error saying where it was looked for when there is none.
  std::shared_ptr<Checkpoint> checkpoint(Component component) const;
  // The same under the engine's names.
  std::shared_ptr<TensorSource> open(Component component) const;

  // spiece.model. The second throws Error saying where it was looked for.
  std::optional<std::filesystem::path> find_tokenizer() const;
  std::filesystem::path tokenizer() const;

  // Every file that the networks, their sizes and the tokenizer come from; sorted, each once.
  std::vector<std::filesystem::path> files() const;

 private:
  ModelDirectory() = default;
  void find_checkpoints();
  void read_config();
  void infer_config();

  std::filesystem::path path_;
  ModelConfig config_;
  bool has_config_file_ = false;
  bool has_random_weights_ = false;
  std::map<Component, std::shared_ptr<Checkpoint>> checkpoints_;
};

}  // namespace mochi
