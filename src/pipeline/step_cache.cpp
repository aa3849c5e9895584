#include "pipeline/step_cache.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "sparsity/schedule.h"
#include "sparsity/state_tensors.h"

namespace mochi {
namespace {

constexpr std::array<const char*, 2> kHiddenNames{"hidden.cond", "hidden.null"};

}  // namespace

StepCache::StepCache(const SparsityConfig& config, Backend& backend, const Shape& tokens,
                     bool has_null)
    : config_(config) {
  if (!config.step_caching.is_enabled) return;
  const std::size_t num_branches = has_null ? 2 : 1;
  for (std::size_t i = 0; i < num_branches; ++i) {
    branches_[i].tokens = Tensor(backend.activation_dtype(), tokens, backend.allocator());
  }
}

void StepCache::prepare(DitCall& call) {
  Hidden& hidden = branches_[static_cast<std::size_t>(call.branch)];
  if (!hidden.tokens) return;
  if (hidden.is_filled && skips_blocks(config_, call.step)) {
    call.cached_hidden = hidden.tokens;
  } else {
    call.kept_hidden = hidden.tokens;
    hidden.is_filled = has_changed_ = true;
  }
}

std::vector<StateTensor> StepCache::save(Backend& backend) const {
  std::vector<StateTensor> saved;
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    if (branches_[i].is_filled) save_tensor(backend, kHiddenNames[i], branches_[i].tokens, saved);
  }
  return saved;
}

void StepCache::restore(Backend& backend, std::span<const StateTensor> saved) {
  for (const StateTensor& tensor : saved) {
    const auto found = std::ranges::find(kHiddenNames, tensor.name);
    if (found == kHiddenNames.end()) fail("cached tensor '{}': is not known", tensor.name);
    Hidden& hidden = branches_[static_cast<std::size_t>(found - kHiddenNames.begin())];
    try {
      load_activations(backend, tensor.tensor, hidden.tokens);
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& error) {
      fail("cached tensor '{}': {}", tensor.name, error.what());
    }
    hidden.is_filled = true;
  }
}

bool StepCache::owns(std::string_view name) { return name.starts_with("hidden."); }

}  // namespace mochi
