// Rotary position tables of the visual tokens.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace mochi {

// Size of a video in latents, cut into patches: what one table is good for.
struct TokenGrid {
  std::int64_t frames = 0, rows = 0, columns = 0;  // visual tokens along t, h, w
  std::int64_t num_tokens() const { return frames * rows * columns; }
};

struct RotaryTable {
  Tensor cos, sin;  // [tokens, heads, head_dim / 2] f32, token order (t, row, column)
};

// angle(token, head, j) = Σ_axis position(token, axis) · frequencies[axis, head, j], with
// frequencies [3, heads, head_dim / 2] f32 on the backend's device. Frames are at 0, 1, …; rows and
// columns are centred and scaled so that every video covers the area of 192 × 192 patches.
RotaryTable make_rotary_table(Backend& backend, const TensorView& frequencies,
                              const TokenGrid& grid);

}  // namespace mochi
