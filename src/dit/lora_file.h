// A LoRA file: changes of layers, each a small number of thin matrices. The kinds and the spellings
// of keys in use are recognised; see docs/lora.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dit/lora_names.h"
#include "io/checkpoint.h"

namespace mochi {

// The formula of a layer's change ΔW. Biases are changed by one column.
enum class LoraKind : std::uint8_t {
  kLora,            // B · A
  kLoha,            // (w1_a · w1_b) ∘ (w2_a · w2_b)
  kLokr,            // w1 ⊗ w2, each whole or a product
  kDifference,      // the stored one
  kBiasDifference,  // the stored one, of the layer's bias
  kLoraBias,        // the bias of B, which a LoRA scales as it does B · A
};

// A matrix as a file has it, by the names of tensors: whole, or the product left · right.
struct LoraFactor {
  std::string whole, left, right;
};

struct LoraLayer {
  std::string module;  // without prefixes: "blocks.0.attn.qkv_x", "transformer_blocks.0.attn1.to_q"
  LoraKind kind = LoraKind::kLora;
  std::vector<LoraFactor> factors;
  // The DoRA's norms, one for each row of the weight (or each column, if their shape says so).
  std::string magnitude;
  bool magnitude_is_of_rows = true;  // whatever the shape
  LoraSpelling spelling = LoraSpelling::kGenmo;
  std::int64_t rank = 0;   // 0 if no factor is a product
  double alpha = 0;        // the rank where nothing states it
  double strength = 1;     // multiplies the formula: alpha / rank, or alpha / √rank
  bool has_alpha = false;  // stated by the file

  bool is_bias() const { return kind == LoraKind::kBiasDifference || kind == LoraKind::kLoraBias; }
  std::string_view kind_name() const;             // "LoRA", "DoRA", "LoKr with DoRA's norms", …
  std::vector<std::string> tensor_names() const;  // without alpha's
};

class LoraFile {
 public:
  // Throws Error naming the file and the tensor when one belongs to no supported change, a layer's
  // tensors do not fit together, or the metadata contradicts them.
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

// Rows and columns of a stored matrix; the kernel of a convolution counts as columns, and a vector
// has one column. Throws Error naming the tensor when it has another number of dimensions.
struct LoraSizes {
  std::int64_t rows = 0, columns = 0;

  bool operator==(const LoraSizes&) const = default;
};
LoraSizes lora_sizes(const Checkpoint& checkpoint, const std::string& name);
LoraSizes lora_sizes(const Checkpoint& checkpoint, const LoraFactor& factor);

// Returns a warning if layers with an alpha of 0 change nothing; empty if none has one.
std::string warn_of_zero_alphas(const LoraFile& file);

// Returns true if a file holds a LoRA, perhaps a damaged one, instead of a network.
bool holds_lora(const TensorSource& source);

}  // namespace mochi
