// A model as it lies on disk: its networks, its sizes, its tokenizer.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "mochi/mochi.h"
#include "pipeline/model_config.h"
#include "pipeline/model_files.h"

namespace mochi {

class ModelDirectory {
 public:
  // Reads the headers of all files of a model folder, or of the snapshot in a folder of the hub's
  // cache; `paths` go before what is in the folder, which may be empty with them. Throws
  // ModelMissing if the folder does not exist, InvalidRequest if one of the paths is wrong, Error
  // if config.json is. Problems with a network's files are reported when the network is needed.
  explicit ModelDirectory(std::filesystem::path path, ModelPaths paths = {});
  // Every network, with random weights, of the sizes in path's config.json (kConfig; with the
  // tokenizer in `path` if there is one) or of Mochi 1 preview's sizes.
  static ModelDirectory with_random_weights(RandomWeights kind, const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  // Returns the folder that holds the files: path(), or a snapshot below it.
  const std::filesystem::path& root() const { return root_; }
  const ModelConfig& config() const { return config_; }
  // Returns true if the sizes come from a config.json, not from the tensors' shapes.
  bool has_config_file() const { return !config_file_.empty(); }
  const std::filesystem::path& config_file() const { return config_file_; }

  bool has_random_weights() const { return has_random_weights_; }
  bool has(Component component) const {
    return has_random_weights_ || files_.networks.contains(component);
  }
  // Returns the reason why a network is missing although a file for it exists; empty if none does.
  std::string problem(Component component) const;
  // Returns why a file among those of other models cannot be read that may be this network, which
  // is missing; empty if there is none.
  std::string bystander(Component component) const;
  // Choices that were made between several copies of a network, one line each.
  const std::vector<std::string>& notes() const { return files_.notes; }
  // Throws ModelMissing that names all of these networks (and the tokenizer, if it is needed) that
  // are missing, and where they belong; Error if a file for one exists and is wrong.
  void require(std::span<const Component> components, bool needs_tokenizer) const;
  // Throws Error if the networks that are present do not fit together.
  void validate() const;

  // Returns the network as it is stored. Throws Error that states what is wrong with the file, or
  // where it was looked for.
  std::shared_ptr<StoredSource> stored(Component component) const;
  // Returns the network's tensors under the engine's names. Throws as stored() does.
  std::shared_ptr<TensorSource> open(Component component) const;

  // Return the path of spiece.model, or of tokenizer.json where there is none. tokenizer() throws
  // Error stating where it was looked for.
  std::optional<std::filesystem::path> find_tokenizer() const;
  std::filesystem::path tokenizer() const;

  // Every file that the networks, their sizes and the tokenizer come from; sorted, each once.
  std::vector<std::filesystem::path> files() const;
  // Returns the name of such a file: relative to the folder if it is in there, otherwise absolute.
  std::string name_of(const std::filesystem::path& file) const;

 private:
  ModelDirectory() = default;
  void replace_parts();
  // Returns the config.json of the folder, or without one, of the first network's; empty if there
  // is none.
  std::filesystem::path find_config_file() const;
  void read_config();
  void infer_config();
  // Sets sizes that these networks' tensors show. If they do not show them, that is a problem with
  // the networks, which then count as missing.
  template <typename SetSizes>
  void infer_sizes(std::initializer_list<Component> components, const SetSizes& set_sizes);
  // Throws ModelMissing, or InvalidRequest if there is no folder where the parts could be.
  [[noreturn]] void fail_missing(const std::set<ModelPart>& parts) const;
  std::vector<std::filesystem::path> tokenizer_places() const;

  std::filesystem::path path_;
  ModelPaths paths_;
  std::filesystem::path root_;
  ModelConfig config_;
  std::filesystem::path config_file_;
  bool has_random_weights_ = false;
  ModelFiles files_;
};

}  // namespace mochi
