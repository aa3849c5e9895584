// Checks of a configuration's values, used for files and for configurations made by a program.
#pragma once

#include <optional>
#include <string>

#include "sparsity/config_keys.h"

namespace mochi {

struct ConfigProblem {
  std::string key;      // "attn.top_keys", "overrides[2].layers"
  std::string problem;  // "wanted 0 to 1, found 1.5"
};

// The first value that is out of range or contradicts another one.
std::optional<ConfigProblem> find_problem(const SparsityConfig& config);

// Descriptions of the accepted values, for messages.
std::string describe_wanted(double number, const ValueRange& range);
std::string describe_wanted(int number, const ValueRange& range);
std::string describe_wanted(DeltaKind delta);
std::string describe_wanted(CacheDType dtype);
std::string describe_wanted(SkipRule rule);
std::string describe_wanted(Extrapolation extrapolation);

// Name of the key `key` in entry `entry_idx` of `overrides`.
std::string name_override_key(std::size_t entry_idx, std::string_view key);

}  // namespace mochi
