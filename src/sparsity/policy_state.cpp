// Saves and restores the state of ColumnSparsePolicy and SparseMlp as named tensors, such as
// "cond.3.lse", "cond.3.mlp_out" and "hidden.null".
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {
namespace {

constexpr std::array<const char*, 2> kBranchNames{"cond", "null"};

std::size_t parse_branch(const std::string& name) {
  for (std::size_t branch = 0; branch < kBranchNames.size(); ++branch) {
    if (name == kBranchNames[branch]) return branch;
  }
  fail("wanted cond or null, found '{}'", name);
}

int parse_layer(const std::string& text) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0) {
    fail("wanted a layer, found '{}'", text);
  }
  return layer;
}

std::vector<std::string> split_at_dots(const std::string& text) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Prefix of the names of a site's tensors.
std::string name_site(const std::pair<Branch, int>& site) {
  return std::string(kBranchNames[static_cast<std::size_t>(site.first)]) + "." +
         std::to_string(site.second) + ".";
}

// Downloads a tensor to `saved`, unless it is empty.
void keep(Backend& backend, const std::string& name, const TensorView& tensor,
          std::vector<PolicyTensor>& saved) {
  if (!tensor) return;
  saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
  backend.download(tensor, saved.back().tensor);
}

// Copies a tensor on the host to `saved`.
void keep_host(const std::string& name, const TensorView& tensor,
               std::vector<PolicyTensor>& saved) {
  saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
  std::memcpy(saved.back().tensor.view().bytes(), tensor.bytes(), tensor.size_bytes());
}

Tensor upload(Backend& backend, const TensorView& host) {
  Tensor tensor(host.dtype(), host.shape(), backend.allocator());
  backend.upload(host, tensor);
  return tensor;
}

// Uploads activations and converts them if needed: those saved on a GPU are BF16, on a CPU F32.
Tensor upload_activations(Backend& backend, const TensorView& host) {
  const DType wanted = backend.activation_dtype();
  if (host.dtype() == wanted) return upload(backend, host);
  if (host.dtype() == DType::kBF16) {
    const Tensor widened(DType::kF32, host.shape());
    const auto* const bits = reinterpret_cast<const BFloat16*>(host.bytes());
    std::transform(bits, bits + host.num_elements(), widened.view().f32().begin(),
                   [](BFloat16 value) {
                     return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
                   });
    return upload(backend, widened);
  }
  const Tensor wide = upload(backend, host);
  Tensor rounded(wanted, host.shape(), backend.allocator());
  backend.copy(wide, rounded);
  return rounded;
}

bool is_activation(const TensorView& host) {
  return host.dtype() == DType::kF32 || host.dtype() == DType::kBF16;
}

// Name of a delta's weight, which also identifies the kind of the delta.
const char* name_weight(const AttentionDelta& delta) {
  if (!delta.is_merged) return "weight";
  return delta.follow > 0 ? "half_rest_lse" : "rest_lse";
}

constexpr std::string_view kMlpPrefix = "mlp_";

// Returns true if a tensor determines the sizes of its site's others and must be restored first.
bool tells_sizes(const std::string& name) {
  return name.ends_with(".lse") || name.ends_with(".mlp_activations");
}

}  // namespace

std::vector<PolicyTensor> ColumnSparsePolicy::save(Backend& backend) const {
  std::vector<PolicyTensor> saved;
  backend.synchronize();  // completes the copies to host memory
  for (const auto& [key, state] : sites_) {
    const std::string site = name_site(key);
    const AttentionSite at{key.first, key.second};
    keep(backend, site + "lse", state.lse, saved);
    if (state.plan && offload_ && offload_->bits(at)) {
      keep_host(site + "plan", offload_->host_bits(at), saved);
    } else if (state.plan) {
      keep(backend, site + "plan", state.plan->bits(), saved);
    }
    if (state.delta.cache && offload_ && offload_->cache(at)) {
      keep_host(site + "cache", offload_->host_cache(at), saved);
    } else {
      keep(backend, site + "cache", state.delta.cache, saved);
    }
    keep(backend, site + "cache_scale", state.delta.cache_scale, saved);
    keep(backend, site + name_weight(state.delta), state.delta.weight, saved);
  }
  mlp_.save(backend, saved);
  for (std::size_t branch = 0; branch < hidden_.size(); ++branch) {
    keep(backend, std::string("hidden.") + kBranchNames[branch], hidden_[branch], saved);
  }
  return saved;
}

void SparseMlp::save(Backend& backend, std::vector<PolicyTensor>& saved) const {
  for (const auto& [key, state] : sites_) {
    const std::string site = name_site(key).append(kMlpPrefix);
    keep(backend, site + "activations", state.activations, saved);
    keep(backend, site + "out", state.out, saved);
    keep(backend, site + "means", state.means, saved);
    const std::optional<int> chosen = branches_[static_cast<std::size_t>(key.first)].chosen_at;
    if (!chosen || !state.plan) continue;
    keep(backend, site + "plan", state.plan->bits(), saved);
    saved.push_back({site + "chosen_at", Tensor(DType::kI32, {1})});
    const std::int32_t chosen_at = *chosen;
    std::memcpy(saved.back().tensor.view().bytes(), &chosen_at, sizeof(chosen_at));
  }
}

void ColumnSparsePolicy::restore(Backend& backend, const std::vector<PolicyTensor>& tensors) {
  sites_.clear();
  mlp_.clear();
  for (std::uint64_t& epoch : epochs_) ++epoch;
  for (const bool is_first : {true, false}) {
    for (const PolicyTensor& saved : tensors) {
      if (tells_sizes(saved.name) == is_first) restore_one(backend, saved);
    }
  }
}

void ColumnSparsePolicy::restore_one(Backend& backend, const PolicyTensor& saved) try {
  const std::vector<std::string> parts = split_at_dots(saved.name);
  if (parts.size() == 2 && parts[0] == "hidden") {
    if (!is_activation(saved.tensor)) fail("wanted floats");
    hidden_[parse_branch(parts[1])] = upload_activations(backend, saved.tensor);
  } else if (parts.size() == 3) {
    const AttentionSite site{static_cast<Branch>(parse_branch(parts[0])), parse_layer(parts[1])};
    if (parts[2].starts_with(kMlpPrefix)) {
      mlp_.restore(backend, site, parts[2].substr(kMlpPrefix.size()), saved.tensor);
    } else {
      restore_site(backend, site, parts[2], saved);
    }
  } else {
    fail("is not known");
  }
} catch (const OutOfMemory&) {
  throw;
} catch (const Error& error) {
  fail("cached tensor '{}': {}", saved.name, error.what());
}

void ColumnSparsePolicy::restore_plan(Backend& backend, AttentionSite site,
                                      const TensorView& host) {
  SiteState& state = sites_[{site.branch, site.layer}];
  if (!state.lse) fail("wanted the lse of its site, found none");
  const std::int64_t num_tokens = state.lse.view().dim(1);
  const TensorView home = offload_ ? offload_->bits(site) : TensorView();
  if (home && home.shape() != host.shape()) {
    fail("wanted {}, found {}", home.shape().to_string(), host.shape().to_string());
  }
  state.plan.emplace(backend, ColumnRule(config_.attn), num_tokens, num_tokens, host, home);
  if (home) std::memcpy(offload_->host_bits(site).bytes(), host.bytes(), host.size_bytes());
}

void ColumnSparsePolicy::restore_cache(Backend& backend, AttentionSite site,
                                       const TensorView& host) {
  SiteState& state = sites_[{site.branch, site.layer}];
  const bool is_fp8 = config_.attn.cache_dtype == CacheDType::kFp8;
  if (is_fp8 != (host.dtype() == DType::kF8E4M3)) {
    fail("wanted {}, found {}: it was saved with another attn.cache_dtype",
         dtype_name(find_cache_dtype(backend)), dtype_name(host.dtype()));
  }
  state.cache = is_fp8 ? upload(backend, host) : upload_activations(backend, host);
  state.delta.cache = state.cache;
  const TensorView home = offload_ ? offload_->cache(site) : TensorView();
  if (!home) return;
  if (home.shape() != host.shape()) {
    fail("wanted {}, found {}", home.shape().to_string(), host.shape().to_string());
  }
  backend.download(state.cache, offload_->host_cache(site));
  state.cache = {};
  state.delta.cache = home;
}

void ColumnSparsePolicy::restore_site(Backend& backend, AttentionSite site, const std::string& part,
                                      const PolicyTensor& saved) {
  SiteState& state = sites_[{site.branch, site.layer}];
  const TensorView& host = saved.tensor.view();
  if (part == "plan") {
    restore_plan(backend, site, host);
    return;
  }
  const bool is_cache = part == "cache";
  const bool fits = is_cache ? is_float(host.dtype()) : host.dtype() == DType::kF32;
  if (host.rank() != 2 || !fits) {
    fail("wanted two dimensions of floats, found {} {}", dtype_name(host.dtype()),
         host.shape().to_string());
  }
  if (is_cache) {
    restore_cache(backend, site, host);
  } else if (part == "lse") {
    if (host.dim(1) < grid_.num_tokens()) fail("wanted {} tokens or more", grid_.num_tokens());
    state.lse = upload(backend, host);
  } else if (part == "cache_scale") {
    state.cache_scale = upload(backend, host);
    state.delta.cache_scale = state.cache_scale;
  } else if (part == "weight" || part == "rest_lse" || part == "half_rest_lse") {
    state.weight = upload(backend, host);
    state.delta.weight = state.weight;
    state.delta.is_merged = part != "weight";
    state.delta.follow = part == "half_rest_lse" ? kHalfMergeFollow : 0;
  } else {
    fail("is not known");
  }
}

void SparseMlp::restore(Backend& backend, AttentionSite site, const std::string& part,
                        const TensorView& host) {
  SiteState& state = sites_[{site.branch, site.layer}];
  const auto refuse = [&](const std::string& wanted) {
    fail("wanted {}, found {} {}", wanted, dtype_name(host.dtype()), host.shape().to_string());
  };
  if (part == "plan") {
    if (!state.activations) fail("wanted the activations of its site, found none");
    state.plan.emplace(backend, ColumnRule(mlp_), num_tokens_, state.activations.view().dim(1),
                       host);
    return;
  }
  if (part == "chosen_at") {
    if (host.dtype() != DType::kI32 || host.shape() != Shape{1}) refuse("I32 [1]");
    std::int32_t step = 0;
    std::memcpy(&step, host.bytes(), sizeof(step));
    branches_[static_cast<std::size_t>(site.branch)].chosen_at = step;
    return;
  }
  const std::map<std::string, Tensor*> tensors{
      {"activations", &state.activations}, {"out", &state.out}, {"means", &state.means}};
  const auto found = tensors.find(part);
  if (found == tensors.end()) fail("is not known");
  const std::int64_t num_rows = part == "means" ? num_blocks() : num_tokens_;
  if (!is_activation(host) || host.rank() != 2 || host.dim(0) != num_rows) {
    refuse(fmt::format("{} [{}, …]", dtype_name(backend.activation_dtype()), num_rows));
  }
  *found->second = upload_activations(backend, host);
  branches_[static_cast<std::size_t>(site.branch)].has_activations = true;
}

}  // namespace mochi
