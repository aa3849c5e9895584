// The strength of a LoRA's layers, as the metadata of its file state it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "io/checkpoint.h"
#include "io/json.h"

namespace mochi {

// The name of a module without what libraries put before it: "base_model.model.", "transformer.".
std::string strip_lora_prefixes(std::string_view module);

class LoraAlphas {
 public:
  // Throws Error naming the file and the key when the metadata is not what it should be.
  explicit LoraAlphas(const Checkpoint& checkpoint);

  // Returns the alpha of the layer of a module; nothing if the metadata does not state it. Throws
  // Error if it states another rank than the layer's, or something that is not understood.
  std::optional<double> find(std::string_view module, std::int64_t rank) const;
  // "Rank-stabilised": the strength is alpha / √rank.
  bool is_rank_stabilised() const { return is_rank_stabilised_; }

 private:
  // Rank and alpha of one kind of layer, as genmo's fine-tuner writes them.
  struct Kind {
    std::optional<double> rank, alpha;
  };
  void read_genmo(const std::string& text);
  void read_peft(const Json& json, const std::string& where);
  void read_plain(const std::map<std::string, std::string>& metadata);
  // Throws if peft's settings state another rank.
  void check_peft_rank(std::string_view module, std::int64_t rank) const;
  std::optional<double> find_plain(std::string_view module, std::int64_t rank) const;

  std::string file_name_;
  Kind qkv_, out_;
  // Those of peft, for all modules and for those whose names end so.
  std::optional<double> alpha_, peft_rank_;
  std::map<std::string, double> alpha_patterns_, rank_patterns_;
  std::string peft_source_;     // file and key of the rank
  Kind plain_;                  // other trainers', of all layers
  std::string not_understood_;  // the problem to report if alpha is needed
  bool is_rank_stabilised_ = false;
};

}  // namespace mochi
