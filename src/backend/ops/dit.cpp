#include "backend/ops/dit.h"

namespace mochi::ops {
namespace {

void check_patches(const Contract& c, const TensorView& latents, int patch_size,
                   const TensorView& tokens) {
  c.rank("latents", latents, 4);
  const std::int64_t p = patch_size;
  const std::int64_t rows = latents.dim(2);
  const std::int64_t columns = latents.dim(3);
  c.require(p > 0 && rows % p == 0 && columns % p == 0, "latents " + latents.shape().to_string() +
                                                            " do not divide into patches of " +
                                                            std::to_string(p));
  c.shape("tokens", tokens, {latents.dim(1) * (rows / p) * (columns / p), latents.dim(0) * p * p});
}

// Checks the parameters that QkNormRope and QkvLinear share.
void check_norm_rope(const Contract& c, std::int64_t num_tokens, const auto& op) {
  c.rank("q", op.q, 3);
  const std::int64_t heads = op.q.dim(0);
  const std::int64_t head_dim = op.q.dim(2);
  c.shape("k", op.k, op.q.shape());
  c.shape("v", op.v, op.q.shape());
  c.require(op.offset >= 0 && op.offset + num_tokens <= op.q.dim(1),
            "tokens do not fit after the offset");
  const QkNorm& norm = op.norm;
  c.shape("q_weight", norm.q_weight, {head_dim});
  c.shape("k_weight", norm.k_weight, {head_dim});
  c.require(head_dim % 2 == 0, "head_dim is odd");
  c.require(static_cast<bool>(norm.cos) == static_cast<bool>(norm.sin),
            "cos and sin must both be given or both be empty");
  c.optional_shape("cos", norm.cos, {num_tokens, heads, head_dim / 2});
  c.optional_shape("sin", norm.sin, {num_tokens, heads, head_dim / 2});
}

}  // namespace

void Patchify::check(const Contract& c) const { check_patches(c, latents, patch_size, tokens); }

void Unpatchify::check(const Contract& c) const { check_patches(c, latents, patch_size, tokens); }

void NormModulate::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.shape("scale", scale, {x.dim(1)});
  c.shape("out", out, x.shape());
}

void LayerNormModulate::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.shape("shift", shift, {x.dim(1)});
  c.shape("scale", scale, {x.dim(1)});
  c.shape("out", out, x.shape());
}

void QkNormRope::check(const Contract& c) const {
  c.rank("qkv", qkv, 2);
  check_norm_rope(c, qkv.dim(0), *this);
  c.shape("qkv", qkv, {qkv.dim(0), 3 * q.dim(0) * q.dim(2)});
}

void QkvLinear::check(const Contract& c) const {
  c.rank("x", x, 2);
  check_norm_rope(c, x.dim(0), *this);
  c.shape("weight", weight, {3 * q.dim(0) * q.dim(2), x.dim(1)});
  c.product(x, weight);
}

void GatedResidual::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.shape("r", r, x.shape());
  c.shape("gate", gate, {x.dim(1)});
  c.optional_shape("bias", bias, {x.dim(1)});
  c.require(static_cast<bool>(next_scale) == static_cast<bool>(next_out),
            "next_scale and next_out must both be given or both be empty");
  c.optional_shape("next_scale", next_scale, {x.dim(1)});
  if (next_out) c.shape("next_out", next_out, x.shape());
}

}  // namespace mochi::ops
