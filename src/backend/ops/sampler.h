// Operations of the sampler. All tensors are F32.
#pragma once

#include <functional>
#include <tuple>

#include "backend/ops/contract.h"
#include "tensor/arena.h"

namespace mochi::ops {

// z += dsigma · (v_null + cfg · (v_cond − v_null)).
struct GuidedEuler {
  static constexpr const char* kName = "guided_euler";
  InF32 v_cond, v_null;
  float cfg, dsigma;
  InOutF32 z;  // all of one shape

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("v_cond", op.v_cond);
    f("v_null", op.v_null);
    f("cfg", op.cfg);
    f("dsigma", op.dsigma);
    f("z", op.z);
  }
};

// out = weight_a·a + weight_b·b; out may be a or b.
struct WeightedSum {
  static constexpr const char* kName = "weighted_sum";
  InF32 a;
  float weight_a;
  InF32 b;
  float weight_b;
  OutF32 out;  // all of one shape

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("a", op.a);
    f("weight_a", op.weight_a);
    f("b", op.b);
    f("weight_b", op.weight_b);
    f("out", op.out);
  }
};

// out = (‖a − b‖, ‖b‖), L2 norms over all elements. Repeated calls give the same bits.
struct DifferenceNorms {
  static constexpr const char* kName = "difference_norms";
  InF32 a, b;                             // equal shapes
  std::reference_wrapper<Arena> scratch;  // for partial sums
  OutF32 out;                             // [2]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("a", op.a);
    f("b", op.b);
    f("scratch", op.scratch);
    f("out", op.out);
  }
};

using SamplerOps = std::tuple<GuidedEuler, WeightedSum, DifferenceNorms>;

}  // namespace mochi::ops
