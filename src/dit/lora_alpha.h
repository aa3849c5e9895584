// The strength of a LoRA's layers: their alphas, as tensors, metadata or settings state them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "io/checkpoint.h"
#include "io/json.h"

namespace mochi {

// The peft library stores its settings next to the file of this name.
inline constexpr const char* kPeftLoraFile = "adapter_model.safetensors";

struct LoraStrength {
  double alpha = 0;        // the rank where nothing states it
  double factor = 0;       // multiplies the product: alpha / rank, or alpha / √rank
  bool has_alpha = false;  // stated by the file
};

class LoraAlphas {
 public:
  // `checkpoint` must outlive the object. Throws Error naming the file and the key when the
  // metadata is not what it should be.
  explicit LoraAlphas(const Checkpoint& checkpoint);

  // Returns the strength of a layer whose alpha is in a tensor, or in the metadata if `alpha_name`
  // is empty. Throws Error if the metadata states another rank than the layer's, or something that
  // is not understood, and if the strength is not finite.
  LoraStrength find(std::string_view module, std::int64_t rank,
                    const std::string& alpha_name) const;
  // Returns the factor of a product of whole matrices (LoKr), which has no rank of its own. peft
  // scales it by its settings, LyCORIS leaves it as it is.
  double factor_of_whole(std::string_view module) const;
  // Returns true if the settings state that the weights are decomposed.
  bool is_dora() const { return is_dora_; }

 private:
  // Rank and alpha of one kind of layer, as genmo's fine-tuner writes them.
  struct Kind {
    std::optional<double> rank, alpha;
  };
  void read_genmo(const std::string& text);
  void read_peft(const Json& json, const std::string& where);
  void read_plain(const std::map<std::string, std::string>& metadata);
  std::optional<double> find_stated(std::string_view module, std::int64_t rank) const;
  std::optional<double> peft_alpha(std::string_view module) const;
  std::optional<double> peft_rank(std::string_view module) const;
  // Throws if peft's settings state another rank.
  void check_peft_rank(std::string_view module, std::int64_t rank) const;
  std::optional<double> find_plain(std::string_view module, std::int64_t rank) const;

  const Checkpoint& checkpoint_;
  std::string file_name_;
  Kind qkv_, out_;
  // Those of peft, for all modules and for those whose names end so.
  std::optional<double> alpha_, peft_rank_;
  std::map<std::string, double> alpha_patterns_, rank_patterns_;
  std::string peft_source_;          // file and key of the rank
  Kind plain_;                       // other trainers', of all layers
  std::string not_understood_;       // the problem to report if alpha is needed
  bool is_rank_stabilised_ = false;  // the strength is alpha / √rank
  bool is_dora_ = false;
};

}  // namespace mochi
