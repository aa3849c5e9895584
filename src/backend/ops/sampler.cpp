#include "backend/ops/sampler.h"

namespace mochi::ops {

void GuidedEuler::check(const Contract& c) const {
  c.shape("v_cond", v_cond, z.shape());
  c.shape("v_null", v_null, z.shape());
}

void WeightedSum::check(const Contract& c) const {
  c.shape("a", a, out.shape());
  c.shape("b", b, out.shape());
}

void DifferenceNorms::check(const Contract& c) const {
  c.shape("a", a, b.shape());
  c.shape("out", out, {2});
}

}  // namespace mochi::ops
