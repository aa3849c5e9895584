// Linear layers with fused epilogues, as two operations, for devices and sizes without such a
// kernel.
#pragma once

#include "backend/ops/dense.h"
#include "backend/ops/dit.h"

namespace mochi {

template <class Device>
void gated_linear_in_two_steps(Device& device, const ops::GatedLinear& op) {
  Arena& scratch = op.scratch;
  const Arena::Scope scope(scratch);
  const TensorView both =
      scratch.allocate(device.activation_dtype(), {op.x.dim(0), op.weight.dim(0)});
  compute(device, ops::Linear{.x = op.x, .weight = op.weight, .out = both});
  compute(device, ops::GatedActivation{.x = both, .activation = op.activation, .out = op.out});
}

template <class Device>
void qkv_linear_in_two_steps(Device& device, const ops::QkvLinear& op) {
  Arena& scratch = op.scratch;
  const Arena::Scope scope(scratch);
  const TensorView qkv =
      scratch.allocate(device.activation_dtype(), {op.x.dim(0), op.weight.dim(0)});
  compute(device, ops::Linear{.x = op.x, .weight = op.weight, .out = qkv});
  compute(device,
          ops::QkNormRope{
              .qkv = qkv, .norm = op.norm, .offset = op.offset, .q = op.q, .k = op.k, .v = op.v});
}

}  // namespace mochi
