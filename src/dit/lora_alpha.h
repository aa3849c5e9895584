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
    std::optional<std::int64_t> rank;
    std::optional<double> alpha;
  };
  void read_genmo(const std::string& text);
  void read_peft(const Json& json, const std::string& where);
  void read_plain(const std::map<std::string, std::string>& metadata);
  std::optional<double> find_plain(std::string_view module, std::int64_t rank) const;

  std::string file_name_;
  Kind qkv_, out_;
  std::optional<double> alpha_;             // peft's, of all layers but:
  std::map<std::string, double> patterns_;  // peft's, of modules by the end of their names
  Kind plain_;                              // other trainers', of all layers
  std::string not_understood_;              // the problem to report if alpha is needed
  bool is_rank_stabilised_ = false;
};

}  // namespace mochi
