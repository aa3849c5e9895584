#include "backend/ops/dense.h"

namespace mochi::ops {

void Add::check(const Contract& c) const {
  c.shape("b", b, a.shape());
  c.shape("out", out, a.shape());
}

void Silu::check(const Contract& c) const { c.shape("out", out, x.shape()); }

void MeanRows::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.require(block_size >= 0, "block_size is negative");
  const std::int64_t num_blocks = block_size > 0 ? (x.dim(0) + block_size - 1) / block_size : 1;
  c.shape("out", out, {num_blocks, x.dim(1)});
}

void QuantiseRows::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.shape("out", out, x.shape());
  c.require(out.is_quantised(), "out has no scales");
}

void Linear::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.rank("weight", weight, 2);
  c.shape("weight", weight, {weight.dim(0), x.dim(1)});
  c.optional_shape("bias", bias, {weight.dim(0)});
  c.shape("out", out, {x.dim(0), weight.dim(0)});
  c.product(x, weight);
  c.require(!accumulate || activation == Activation::kNone,
            "an accumulated result has no activation");
  c.require(!accumulate || !x.is_quantised(), "results of 8-bit products are not accumulated");
}

void GatedActivation::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.rank("out", out, 2);
  c.shape("x", x, {out.dim(0), 2 * out.dim(1)});
}

void GatedLinear::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.rank("out", out, 2);
  c.shape("weight", weight, {2 * out.dim(1), x.dim(1)});
  c.product(x, weight);
  c.shape("out", out, {x.dim(0), out.dim(1)});
}

}  // namespace mochi::ops
