// Keys that have no effect because another key of the same configuration overrules them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi {

// The reason why `key` has no effect ("attn.full_step_schedule is given"), or nothing if it has
// one. Keys of overrides are named "overrides[0].top_keys"; "overrides" is the whole list.
std::string_view find_overruling(const SparsityConfig& config, std::string_view key);

// Keys that share a reason.
struct OverruledKeys {
  std::vector<std::string> keys;
  std::string_view reason;
  std::string describe() const;  // "a, b and c have no effect, because d is false"
};

// The keys out of `given` that have no effect, by reason.
std::vector<OverruledKeys> find_overruled(const SparsityConfig& config,
                                          const std::vector<std::string>& given);

}  // namespace mochi
