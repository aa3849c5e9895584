// The start of a search as `mochi tune` makes it.
#pragma once

#include <string>

#include "cli/tune/search_space.h"

namespace mochi::cli {

inline SparsityConfig load_box() {
  return load_sparsity_config(std::string(MOCHI_SOURCE_DIR) + "/chipmunk-config.yml").config;
}
inline SparsityConfig make_start(const Workload& workload) {
  return fit_start(load_box(), workload);
}

}  // namespace mochi::cli
