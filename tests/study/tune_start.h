// The start of a search as `mochi tune` makes it.
#pragma once

#include <string>

#include "study/search_space.h"

namespace mochi::study {

inline SparsityConfig load_box() {
  return evaluate_every_step(
      load_sparsity_config(std::string(MOCHI_SOURCE_DIR) + "/chipmunk-config.yml").config);
}
inline SparsityConfig make_start(const Workload& workload) {
  return fit_start(load_box(), workload);
}

}  // namespace mochi::study
