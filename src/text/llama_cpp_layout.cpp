#include "text/llama_cpp_layout.h"

#include <array>
#include <string_view>
#include <utility>

#include "io/renamed_source.h"

namespace mochi {
namespace {

struct NamePair {
  std::string_view llama_cpp;
  std::string_view transformers;
};

constexpr NamePair kLayers{"enc.blk.", "encoder.block."};

constexpr std::array kWholeNames{
    NamePair{"token_embd.weight", "shared.weight"},
    NamePair{"enc.output_norm.weight", "encoder.final_layer_norm.weight"},
};

// Ends of names, after the number of a layer.
constexpr std::array kLayerParts{
    NamePair{".attn_norm.weight", ".layer.0.layer_norm.weight"},
    NamePair{".attn_q.weight", ".layer.0.SelfAttention.q.weight"},
    NamePair{".attn_k.weight", ".layer.0.SelfAttention.k.weight"},
    NamePair{".attn_v.weight", ".layer.0.SelfAttention.v.weight"},
    NamePair{".attn_o.weight", ".layer.0.SelfAttention.o.weight"},
    NamePair{".attn_rel_b.weight", ".layer.0.SelfAttention.relative_attention_bias.weight"},
    NamePair{".ffn_norm.weight", ".layer.1.layer_norm.weight"},
    NamePair{".ffn_gate.weight", ".layer.1.DenseReluDense.wi_0.weight"},
    NamePair{".ffn_up.weight", ".layer.1.DenseReluDense.wi_1.weight"},
    NamePair{".ffn_down.weight", ".layer.1.DenseReluDense.wo.weight"},
};

using Side = std::string_view NamePair::*;

std::string rename_t5(const std::string& name, Side from, Side to) {
  for (const NamePair& pair : kWholeNames) {
    if (name == pair.*from) return std::string(pair.*to);
  }
  const std::string_view prefix = kLayers.*from;
  if (!name.starts_with(prefix)) return name;
  const std::size_t dot = name.find('.', prefix.size());
  if (dot == std::string::npos) return name;
  const std::string_view part = std::string_view(name).substr(dot);
  for (const NamePair& pair : kLayerParts) {
    if (part != pair.*from) continue;
    return std::string(kLayers.*to) + name.substr(prefix.size(), dot - prefix.size()) +
           std::string(pair.*to);
  }
  return name;
}

}  // namespace

bool has_llama_cpp_t5_keys(const TensorSource& source) {
  return source.contains("enc.blk.0.attn_q.weight");
}

std::string to_llama_cpp_t5_name(const std::string& name) {
  return rename_t5(name, &NamePair::transformers, &NamePair::llama_cpp);
}

std::string from_llama_cpp_t5_name(const std::string& name) {
  return rename_t5(name, &NamePair::llama_cpp, &NamePair::transformers);
}

std::shared_ptr<StoredSource> from_llama_cpp_t5(std::shared_ptr<const StoredSource> source) {
  return std::make_shared<RenamedSource>(std::move(source), from_llama_cpp_t5_name);
}

}  // namespace mochi
