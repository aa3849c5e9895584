// Sparse feed-forward layers beside dense ones.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "backend/backend.h"

namespace mochi::bench {

struct MlpSizes {
  std::int64_t num_tokens, width, hidden;
};

// Medians of a dense layer, of one that computes these fractions of its hidden columns anew, and of
// choosing them; on normally distributed values. All columns must give the dense output first.
nlohmann::ordered_json measure_sparse_mlp(Backend& backend, const MlpSizes& sizes,
                                          const std::vector<double>& fractions,
                                          int num_repetitions);

}  // namespace mochi::bench
