// What the metadata of a LoRA file says about the strength of its layers.
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

  // Of a layer by its module's name; nothing where the metadata does not state it. Throws Error
  // when it states another rank than the layer's, or something that is not understood.
  std::optional<double> find(std::string_view module, std::int64_t rank) const;
  // "Rank-stabilised": the strength is alpha / √rank.
  bool is_rank_stabilised() const { return is_rank_stabilised_; }

 private:
  // Of one kind of layer, as genmo's fine-tuner writes them.
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
  std::string not_understood_;              // what is wrong with the metadata, if alpha needs it
  bool is_rank_stabilised_ = false;
};

}  // namespace mochi
