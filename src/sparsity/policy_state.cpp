// The state of a ColumnSparsePolicy as named tensors: "cond.3.lse", "hidden.null".
#include <charconv>

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

}  // namespace

std::vector<PolicyTensor> ColumnSparsePolicy::save(Backend& backend) const {
  std::vector<PolicyTensor> saved;
  const auto add = [&](const std::string& name, const TensorView& tensor) {
    if (!tensor) return;
    saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
    backend.download(tensor, saved.back().tensor);
  };
  for (const auto& [key, state] : sites_) {
    const std::string site = std::string(kBranchNames[static_cast<std::size_t>(key.first)]) + "." +
                             std::to_string(key.second) + ".";
    add(site + "lse", state.lse);
    if (state.plan) add(site + "plan", state.plan->bits());
    add(site + "cache", state.delta.cache);
    add(site + (state.delta.is_merged ? "rest_lse" : "weight"), state.delta.weight);
  }
  for (std::size_t branch = 0; branch < hidden_.size(); ++branch) {
    add(std::string("hidden.") + kBranchNames[branch], hidden_[branch]);
  }
  return saved;
}

void ColumnSparsePolicy::restore(Backend& backend, const std::vector<PolicyTensor>& tensors) {
  sites_.clear();
  // A site's lse comes first: it says how many tokens there are.
  for (const bool is_lse : {true, false}) {
    for (const PolicyTensor& saved : tensors) {
      if (saved.name.ends_with(".lse") == is_lse) restore_one(backend, saved);
    }
  }
}

void ColumnSparsePolicy::restore_one(Backend& backend, const PolicyTensor& saved) try {
  const std::vector<std::string> parts = split_at_dots(saved.name);
  if (parts.size() == 2 && parts[0] == "hidden") {
    Tensor& hidden = hidden_[parse_branch(parts[1])];
    hidden = Tensor(saved.tensor.view().dtype(), saved.tensor.view().shape(), backend.allocator());
    backend.upload(saved.tensor, hidden);
  } else if (parts.size() == 3) {
    const auto branch = static_cast<Branch>(parse_branch(parts[0]));
    restore_site(backend, sites_[{branch, parse_layer(parts[1])}], parts[2], saved);
  } else {
    fail("is not known");
  }
} catch (const Error& error) {
  fail("cached tensor '{}': {}", saved.name, error.what());
}

void ColumnSparsePolicy::restore_site(Backend& backend, SiteState& state, const std::string& part,
                                      const PolicyTensor& saved) const {
  const TensorView& host = saved.tensor.view();
  if (part == "plan") {
    if (!state.lse) fail("has no lse beside it");
    state.plan.emplace(backend, config_.attn, state.lse.view().dim(1), host);
    return;
  }
  const bool is_cache = part == "cache";
  if (host.rank() != 2 || host.dtype() != (is_cache ? backend.activation_dtype() : DType::kF32)) {
    fail("wanted two dimensions of floats, found {} {}", dtype_name(host.dtype()),
         host.shape().to_string());
  }
  Tensor tensor(host.dtype(), host.shape(), backend.allocator());
  backend.upload(host, tensor);
  if (part == "lse") {
    if (host.dim(1) < grid_.num_tokens()) fail("wanted {} tokens or more", grid_.num_tokens());
    state.lse = std::move(tensor);
  } else if (is_cache) {
    state.cache = std::move(tensor);
    state.delta.cache = state.cache;
  } else if (part == "weight" || part == "rest_lse") {
    state.weight = std::move(tensor);
    state.delta.weight = state.weight;
    state.delta.is_merged = part == "rest_lse";
  } else {
    fail("is not known");
  }
}

}  // namespace mochi
