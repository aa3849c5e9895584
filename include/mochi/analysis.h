// What a sparse sampling did, and what it left out. Standard types only.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi {

enum class SiteKind : std::uint8_t {
  kDense,   // a layer that is always dense
  kFull,    // dense, and the columns of later steps are chosen
  kSparse,  // the chosen columns, and a delta
};

// One branch and layer at one step. Everything is attended to unless it is sparse.
struct SiteReport {
  int step = 0;
  int layer = 0;
  bool is_null_branch = false;
  SiteKind kind = SiteKind::kDense;
  // Of each head: the part of the columns that is kept, mean of its query groups; and the part of
  // the dense softmax's mass that these columns hold, mean of its queries.
  std::vector<double> kept, recalled;
  // Of sparse sites: how far the output would be from the dense one with each delta and the same
  // plans and inputs, ‖dense − sparse‖ / ‖dense‖.
  std::map<DeltaKind, double> errors = {};
};

}  // namespace mochi
