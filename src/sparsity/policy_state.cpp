// Saves and restores the state of ColumnSparsePolicy and SparseMlp as named tensors, such as
// "cond.3.lse" and
// "cond.3.mlp_out".
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "sparsity/column_sparse_policy.h"
#include "sparsity/state_tensors.h"

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

// Copies a tensor on the host to `saved`.
void keep_host(const std::string& name, const TensorView& tensor, std::vector<StateTensor>& saved) {
  saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
  std::memcpy(saved.back().tensor.view().bytes(), tensor.bytes(), tensor.size_bytes());
}

// Name of a delta's weight, which also identifies the kind of the delta.
const char* name_weight(const AttentionDelta& delta) {
  if (!delta.is_merged) return "weight";
  return delta.follow > 0 ? "half_rest_lse" : "rest_lse";
}

constexpr std::string_view kMlpPrefix = "mlp_";

}  // namespace

std::vector<StateTensor> ColumnSparsePolicy::save(Backend& backend) const {
  std::vector<StateTensor> saved;
  backend.device().synchronize();  // completes the copies to host memory
  for (const auto& [key, state] : sites_) {
    const std::string site = name_site(key);
    const Site at{key.first, key.second};
    if (state.has_lse) save_tensor(backend, site + "lse", state.lse, saved);
    if (!state.has_plan) continue;
    if (offload_ && offload_->bits(at)) {
      keep_host(site + "plan", offload_->host_bits(at), saved);
    } else {
      save_tensor(backend, site + "plan", state.plan->bits(), saved);
    }
    if (state.delta.cache && offload_ && offload_->cache(at)) {
      keep_host(site + "cache", offload_->host_cache(at), saved);
    } else {
      save_tensor(backend, site + "cache", state.delta.cache, saved);
    }
    save_tensor(backend, site + "cache_scale", state.delta.cache_scale, saved);
    save_tensor(backend, site + name_weight(state.delta), state.delta.weight, saved);
  }
  mlp_.save(backend, saved);
  return saved;
}

void SparseMlp::save(Backend& backend, std::vector<StateTensor>& saved) const {
  for (const auto& [key, state] : sites_) {
    const std::string site = name_site(key).append(kMlpPrefix);
    if (!state.has_activations) continue;
    save_tensor(backend, site + "activations", state.activations, saved);
    save_tensor(backend, site + "out", state.out, saved);
    save_tensor(backend, site + "means", state.means, saved);
    const std::optional<int> chosen = branches_[static_cast<std::size_t>(key.first)].chosen_at;
    if (!chosen || !state.has_plan) continue;
    save_tensor(backend, site + "plan", state.plan->bits(), saved);
    saved.push_back({site + "chosen_at", Tensor(DType::kI32, {1})});
    const std::int32_t chosen_at = *chosen;
    std::memcpy(saved.back().tensor.view().bytes(), &chosen_at, sizeof(chosen_at));
  }
}

void ColumnSparsePolicy::restore(Backend& backend, const std::vector<StateTensor>& tensors) {
  for (const StateTensor& saved : tensors) restore_one(backend, saved);
}

void ColumnSparsePolicy::restore_one(Backend& backend, const StateTensor& saved) try {
  const std::vector<std::string> parts = split_at_dots(saved.name);
  if (parts.size() != 3) fail("is not known");
  const Site site{static_cast<Branch>(parse_branch(parts[0])), parse_layer(parts[1])};
  if (parts[2].starts_with(kMlpPrefix)) {
    mlp_.restore(backend, site, parts[2].substr(kMlpPrefix.size()), saved.tensor);
  } else {
    restore_site(backend, site, parts[2], saved);
  }
} catch (const OutOfMemory&) {
  throw;
} catch (const Error& error) {
  fail("cached tensor '{}': {}", saved.name, error.what());
}

void ColumnSparsePolicy::restore_plan(Backend& backend, Site site, const TensorView& host) {
  SiteState& state = state_of(site);
  state.plan->restore(backend, host);
  state.has_plan = true;
  if (!offload_ || !offload_->bits(site)) return;
  std::memcpy(offload_->host_bits(site).bytes(), host.bytes(), host.size_bytes());
}

void ColumnSparsePolicy::restore_cache(Backend& backend, Site site, const TensorView& host) {
  SiteState& state = state_of(site);
  const bool is_fp8 = config_.attn.cache_dtype == CacheDType::kFp8;
  if (is_fp8 != (host.dtype() == DType::kF8E4M3)) {
    fail("wanted {}, found {}: it was saved with another attn.cache_dtype",
         dtype_name(find_cache_dtype(backend)), dtype_name(host.dtype()));
  }
  const TensorView home = offload_ ? offload_->cache(site) : TensorView();
  state.delta.cache = home ? home : state.cache;
  load_activations(backend, host, state.delta.cache);
  if (home) {
    backend.run(ops::Download{.source = home, .host = offload_->host_cache(site)});
  }
}

void ColumnSparsePolicy::restore_site(Backend& backend, Site site, const std::string& part,
                                      const StateTensor& saved) {
  SiteState& state = state_of(site);
  const TensorView& host = saved.tensor.view();
  if (part == "plan") {
    restore_plan(backend, site, host);
  } else if (part == "cache") {
    restore_cache(backend, site, host);
  } else if (part == "lse") {
    load_tensor(backend, host, state.lse);
    state.has_lse = true;
  } else if (part == "cache_scale") {
    load_tensor(backend, host, state.cache_scale);
    state.delta.cache_scale = state.cache_scale;
  } else if (part == "weight" || part == "rest_lse" || part == "half_rest_lse") {
    load_tensor(backend, host, state.weight);
    state.delta.weight = state.weight;
    state.delta.is_merged = part != "weight";
    state.delta.follow = part == "half_rest_lse" ? kHalfMergeFollow : 0;
  } else {
    fail("is not known");
  }
}

void SparseMlp::restore(Backend& backend, Site site, const std::string& part,
                        const TensorView& host) {
  const auto found = sites_.find({site.branch, site.layer});
  if (found == sites_.end()) fail("is not known");
  SiteState& state = found->second;
  BranchState& branch = branches_[static_cast<std::size_t>(site.branch)];
  if (part == "plan") {
    state.plan->restore(backend, host);
    state.has_plan = true;
  } else if (part == "chosen_at") {
    if (host.dtype() != DType::kI32 || host.shape() != Shape{1}) {
      fail("wanted I32 [1], found {} {}", dtype_name(host.dtype()), host.shape().to_string());
    }
    std::int32_t step = 0;
    std::memcpy(&step, host.bytes(), sizeof(step));
    branch.chosen_at = step;
  } else if (part == "activations") {
    load_activations(backend, host, state.activations);
    branch.has_activations = state.has_activations = true;
  } else if (part == "out") {
    load_activations(backend, host, state.out);
  } else if (part == "means") {
    load_activations(backend, host, state.means);
  } else {
    fail("is not known");
  }
}

}  // namespace mochi
