// A model as it lies on disk: its networks, its sizes, its tokenizer.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mochi/enums.h"
#include "pipeline/model_config.h"
#include "pipeline/model_files.h"

namespace mochi {

class ModelDirectory {
 public:
  // Reads the headers of all files. Throws Error if there is no such folder or its config.json is
  // wrong; what is wrong with a network's files is told when the network is asked for.
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
    return has_random_weights_ || files_.checkpoints.contains(component);
  }
  // Why a network is not there although a file for it is; empty if there is no such file.
  std::string problem(Component component) const;
  // Choices that were made between several copies of a network, one line each.
  const std::vector<std::string>& notes() const { return files_.notes; }
  // Throws Error that names all of these networks (and the tokenizer, if it is needed) that are
  // missing, and where they belong.
  void require(std::span<const Component> components, bool needs_tokenizer) const;
  // Throws Error if networks that are there do not fit together.
  void validate() const;

  // As stored. Throws Error that says what is wrong with its file, or where it was looked for.
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
  void read_config();
  void infer_config();

  std::filesystem::path path_;
  ModelConfig config_;
  bool has_config_file_ = false;
  bool has_random_weights_ = false;
  ModelFiles files_;
};

}  // namespace mochi
