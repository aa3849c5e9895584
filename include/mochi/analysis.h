// Measurements of a sampling: the columns that sparse attention kept, the error of the ones it left
// out, the error of velocities that skipped steps predicted, and that of products in 8 bits.
// Standard types only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "mochi/compute.h"
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
  // One value per head: the fraction of the columns that is kept (mean over its query groups), and
  // the fraction of the dense softmax's mass that these columns hold (mean over its queries).
  std::vector<double> kept, recalled;
  // Sparse sites only: the error ‖dense − sparse‖ / ‖dense‖ that the output would have with each
  // kind of delta, for equal plans and inputs.
  std::map<DeltaKind, double> errors = {};
};

// One step that step skipping did not evaluate.
struct SkipReport {
  int step = 0;
  // The relative error of the predicted velocity that the rule estimated; nothing for rules that
  // make no estimates.
  std::optional<double> estimated_error = {};
  // ‖predicted − v‖ / ‖v‖ of guided velocities. v is what the transformer gives with dense
  // attention at the same latents and noise level.
  double true_error = 0;
};

// Products of one block's layers at one step: their error in 8 bits.
struct ProductReport {
  int step = 0;
  int block = 0;
  bool is_null_branch = false;
  LayerGroup layers = LayerGroup::kAttention;
  // ‖a − b‖ / ‖b‖ over the products of visual and of text tokens, with a the product of the same
  // rows in this type and b the one that the video has. At most 1,024 rows of each are measured.
  std::map<ComputeType, double> errors = {};
};

}  // namespace mochi
