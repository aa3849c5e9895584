#include "dit/dit_config.h"

#include <string>

#include "base/error.h"
#include "io/json.h"
#include "io/tensor_source.h"

namespace mochi {
namespace {

// Visits every size with its key in config.json.
template <typename Config, typename Visit>
void visit_sizes(Config& config, const Visit& visit) {
  visit("depth", config.depth);
  visit("num_heads", config.num_heads);
  visit("hidden_size_x", config.hidden_size_x);
  visit("hidden_size_y", config.hidden_size_y);
  visit("mlp_hidden_x", config.mlp_hidden_x);
  visit("mlp_hidden_y", config.mlp_hidden_y);
  visit("patch_size", config.patch_size);
  visit("latent_channels", config.latent_channels);
  visit("text_width", config.text_width);
  visit("max_text_tokens", config.max_text_tokens);
  visit("timestep_features", config.timestep_features);
  visit("pooler_heads", config.pooler_heads);
}

}  // namespace

void DitConfig::validate() const {
  constexpr std::int64_t kMaxSize = 1 << 24;
  // Each block allocates memory before any weight is read, and patch sizes in pixels must fit an
  // int.
  constexpr std::int64_t kMaxDepth = 1024;
  constexpr std::int64_t kMaxPatch = 64;
  visit_sizes(*this, [&](const char* name, const std::int64_t& size) {
    const std::int64_t max = &size == &depth        ? kMaxDepth
                             : &size == &patch_size ? kMaxPatch
                                                    : kMaxSize;
    if (size < 1 || size > max) fail("dit.{}: wanted 1 to {}, found {}", name, max, size);
  });
  if (hidden_size_x % (2 * num_heads) != 0) {
    fail("dit.hidden_size_x: wanted num_heads ({}) heads of an even size, found {}", num_heads,
         hidden_size_x);
  }
  if (text_width % pooler_heads != 0) {
    fail("dit.text_width: wanted a multiple of pooler_heads ({}), found {}", pooler_heads,
         text_width);
  }
  if (timestep_features % 2 != 0) {
    fail("dit.timestep_features: wanted an even number, found {}", timestep_features);
  }
}

DitConfig parse_dit_config(JsonReader& section) {
  DitConfig config;
  visit_sizes(config, [&section](const char* name, std::int64_t& size) {
    size = section.get_int(name, size);
  });
  section.finish();
  config.validate();
  return config;
}

DitConfig infer_dit_config(const TensorSource& source) {
  DitConfig config;
  const Shape patch = source.require_rank("x_embedder.proj.weight", 4);
  const Shape frequencies = source.require_rank("pos_frequencies", 3);
  const Shape text = source.require_rank("t5_yproj.weight", 2);
  config.hidden_size_x = patch[0];
  config.latent_channels = patch[1];
  config.patch_size = patch[2];
  config.num_heads = frequencies[1];
  config.hidden_size_y = text[0];
  config.text_width = text[1];
  config.timestep_features = source.require_rank("t_embedder.mlp.0.weight", 2)[1];
  config.mlp_hidden_x = source.require_rank("blocks.0.mlp_x.w2.weight", 2)[1];
  config.depth = 1;
  while (source.contains("blocks." + std::to_string(config.depth) + ".mod_x.weight")) {
    ++config.depth;
  }
  // A single block is the last one, which has no text MLP.
  if (config.depth > 1) {
    config.mlp_hidden_y = source.require_rank("blocks.0.mlp_y.w2.weight", 2)[1];
  }
  config.validate();
  return config;
}

}  // namespace mochi
