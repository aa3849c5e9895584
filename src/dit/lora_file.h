// A LoRA file. For some layers it has two thin matrices, whose product is added to the
// layer's weight. The spellings of keys in use are recognised; see docs/lora.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace mochi {

struct LoraLayer {
  std::string module;  // without prefixes: "blocks.0.attn.qkv_x", "transformer_blocks.0.attn1.to_q"
  std::string down_name;  // in the file: [rank, in_features]
  std::string up_name;    // in the file: [out_features, rank]
  std::int64_t rank = 0;
  double alpha = 0;        // the rank where nothing states it
  double strength = 0;     // factor of up·down: alpha / rank, or alpha / √rank
  bool has_alpha = false;  // stated by the file
};

class LoraFile {
 public:
  // Throws Error naming the file and the tensor when one belongs to no pair of matrices, a pair
  // does not fit together, or the metadata contradicts it.
  explicit LoraFile(std::shared_ptr<const Checkpoint> checkpoint);
  static LoraFile open(const std::filesystem::path& path);

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const std::string& name() const { return name_; }                 // the file's name
  const std::vector<LoraLayer>& layers() const { return layers_; }  // sorted by module

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::string name_;
  std::vector<LoraLayer> layers_;
};

// Returns true if a file holds a LoRA, perhaps a damaged one, instead of a network.
bool holds_lora(const TensorSource& source);

}  // namespace mochi
