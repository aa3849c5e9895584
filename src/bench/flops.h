// Floating-point operations of the networks, counted from their sizes: two per multiply-add of
// matmuls, attention and convolutions. Norms, activations and softmax are not counted.
#pragma once

#include <cstdint>

#include "dit/dit_config.h"
#include "dit/rotary.h"
#include "text/text_encoder_config.h"
#include "vae/vae_config.h"

namespace mochi::bench {

// out [rows, n] = x [rows, k]·weight [n, k]ᵀ: 2·rows·n·k.
double gemm_flops(std::int64_t rows, std::int64_t n, std::int64_t k);

// One evaluation with N visual and L text tokens, S = N + L, widths X and Y, per block:
//   matmuls   N·(3X·X + X·X + 3·X·Fx) + L·(Y·3X) + [not last] L·(X·Y + 3·Y·Fy)
//   attention 2·S·S·X      modulation X·4X + X·4Y ([last] X·Y)
// and around the blocks N·(C·p²)·X in, N·X·(p²·C) out, X·2X, and the timestep's two matmuls.
double dit_flops(const DitConfig& config, const TokenGrid& grid, std::int64_t num_text_tokens);

// One whole video of latents [channels, frames, rows, columns]: per residual block of width C two
// 3×3×3 convolutions of 27·C·C per pixel, and the 1×1×1 projections in, out and between stages.
double decode_flops(const VaeConfig& config, std::int64_t frames, std::int64_t rows,
                    std::int64_t columns);

// Returns the FLOPs for n tokens: per layer n·(4·D·A + 3·D·F) with the widths D and A =
// heads·head_dim, and n·n·2·A for attention.
double t5_flops(const TextEncoderConfig& config, std::int64_t num_tokens);

}  // namespace mochi::bench
