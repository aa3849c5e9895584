// Rotary position tables of the visual tokens.
#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "dit/block_policy.h"

namespace mochi {

struct RotaryTable {
  Tensor cos, sin;  // [tokens, heads, head_dim / 2] f32, in the order of the tokens
};

// Computes angle(token, head, j) = Σ_axis position(token, axis) · frequencies[axis, head, j], with
// frequencies [3, heads, head_dim / 2] f32 on the backend's device. Frames are at 0, 1, …; rows and
// columns are centred and scaled so that every video covers the area of 192 × 192 patches. Token i
// is the order[i]-th in (t, row, column) order, or the i-th if `order` is empty.
RotaryTable make_rotary_table(Backend& backend, const TensorView& frequencies,
                              const TokenGrid& grid, std::span<const std::int32_t> order = {});

}  // namespace mochi
