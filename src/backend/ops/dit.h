// Operations of the diffusion transformer.
#pragma once

#include <functional>
#include <tuple>

#include "backend/ops/contract.h"
#include "tensor/arena.h"

namespace mochi {

// Norm and rotation of queries and keys.
struct QkNorm {
  TensorView q_weight, k_weight;  // [head_dim] f32: weights of the RMS norms
  TensorView cos = {}, sin = {};  // [tokens, heads, head_dim / 2] f32; both empty: no rotation
  float eps = 1e-5F;

  static void visit(auto& norm, const auto& f) {
    f("q_weight", InF32::kRole, norm.q_weight);
    f("k_weight", InF32::kRole, norm.k_weight);
    f("cos", OptionalInF32::kRole, norm.cos);
    f("sin", OptionalInF32::kRole, norm.sin);
    f("eps", norm.eps);
  }
};

namespace ops {

// Latents → tokens in the order (t, h, w), with features in the order of a convolution weight [D,
// channels, p, p].
struct Patchify {
  static constexpr const char* kName = "patchify";
  InF32 latents;  // [channels, T, H, W]
  int patch_size;
  Out tokens;  // [T·H/p·W/p, channels·p·p], features (channel, row, column)

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("latents", op.latents);
    f("patch_size", op.patch_size);
    f("tokens", op.tokens);
  }
};

// Tokens → latents. Features have another order than those of Patchify, as in the published model.
struct Unpatchify {
  static constexpr const char* kName = "unpatchify";
  In tokens;  // [T·H/p·W/p, p·p·channels], features (row, column, channel)
  int patch_size;
  OutF32 latents;  // [channels, T, H, W]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("tokens", op.tokens);
    f("patch_size", op.patch_size);
    f("latents", op.latents);
  }
};

// out = x / rms(x) · (1 + scale), for each row.
struct NormModulate {
  static constexpr const char* kName = "norm_modulate";
  In x;      // [rows, width]
  In scale;  // [width]
  float eps;
  OutRows out;  // [rows, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("scale", op.scale);
    f("eps", op.eps);
    f("out", op.out);
  }
};

// out = layer_norm(x) · (1 + scale) + shift, for each row.
struct LayerNormModulate {
  static constexpr const char* kName = "layer_norm_modulate";
  In x;             // [rows, width]
  In shift, scale;  // [width]
  float eps;
  Out out;  // [rows, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("shift", op.shift);
    f("scale", op.scale);
    f("eps", op.eps);
    f("out", op.out);
  }
};

// Splits qkv; q and k are RMS-normalised with their weights, then rotated in (even, odd) pairs.
struct QkNormRope {
  static constexpr const char* kName = "qk_norm_rope";
  In qkv;  // [tokens, 3·heads·head_dim], ordered (q|k|v, head, head_dim)
  QkNorm norm;
  std::int64_t offset = 0;  // rows [offset, offset + tokens) of q, k and v are written
  Out q, k, v;              // [heads, total, head_dim]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("qkv", op.qkv);
    QkNorm::visit(op.norm, f);
    f("offset", op.offset);
    f("q", op.q);
    f("k", op.k);
    f("v", op.v);
  }
};

// QkNormRope of x · weightᵀ.
struct QkvLinear {
  static constexpr const char* kName = "qkv_linear";
  InRows x;                // [tokens, k]
  InProductMatrix weight;  // [3·heads·head_dim, k]
  QkNorm norm;
  std::int64_t offset = 0;  // rows [offset, offset + tokens) of q, k and v are written
  std::reference_wrapper<Arena> scratch;  // for the product, where there is no fused kernel
  Out q, k, v;                            // [heads, total, head_dim]

  void check(const Contract& c) const;
  bool is_empty() const { return x.dim(0) == 0; }
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    QkNorm::visit(op.norm, f);
    f("offset", op.offset);
    f("scratch", op.scratch);
    f("q", op.q);
    f("k", op.k);
    f("v", op.v);
  }
};

// x += r̂ / rms(r̂) · tanh(gate), for each row, with r̂ = r + bias. Then next_out = x / rms(x) · (1 +
// next_scale).
struct GatedResidual {
  static constexpr const char* kName = "gated_residual";
  In r;                           // [rows, width]
  OptionalInF32 bias = {};        // [width]
  In gate;                        // [width]
  InOut x;                        // [rows, width]
  OptionalIn next_scale = {};     // [width]
  OptionalOutRows next_out = {};  // [rows, width]; empty together with next_scale
  float eps = 1e-6F;              // used by both norms

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("r", op.r);
    f("bias", op.bias);
    f("gate", op.gate);
    f("x", op.x);
    f("next_scale", op.next_scale);
    f("next_out", op.next_out);
    f("eps", op.eps);
  }
};

using DitOps = std::tuple<Patchify, Unpatchify, NormModulate, LayerNormModulate, QkNormRope,
                          QkvLinear, GatedResidual>;

}  // namespace ops
}  // namespace mochi
