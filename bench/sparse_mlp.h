// Measurement of sparse feed-forward layers compared with dense ones.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "backend/backend.h"

namespace mochi::bench {

struct MlpSizes {
  std::int64_t num_tokens, width, hidden;
};

// Measures medians of a dense layer, of layers that recompute these fractions of their hidden
// columns, and of the choice of columns, on normally distributed values. Checks first that all
// columns give the dense output.
nlohmann::ordered_json measure_sparse_mlp(Backend& backend, const MlpSizes& sizes,
                                          const std::vector<double>& fractions,
                                          int num_repetitions);

}  // namespace mochi::bench
