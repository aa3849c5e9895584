// The least work of one call of an operation.
#pragma once

#include "backend/backend.h"

namespace mochi::bench {

struct Cost {
  double flops = 0;  // two per multiply-add of matmuls, attention and convolutions; nothing else
  double bytes = 0;  // every input on the device read and every output written once

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

// Visitor: adds the bytes of tensors on the device.
struct TrafficCounter {
  double& bytes;
  void operator()(const char* /*name*/, Role role, const auto& view) const {
    if (!view || role.place == Place::kHost) return;
    bytes += (role.access == Access::kUpdate ? 2.0 : 1.0) * static_cast<double>(view.size_bytes());
  }
  void operator()(const char* /*name*/, const auto& /*value*/) const {}
};

// Returns the bytes of an operation's tensors on the device; of heads in a matrix, those of the
// heads' columns alone. A tensor that is updated counts twice.
template <class Op>
double traffic(const Op& op) {
  double bytes = 0;
  visit_fields(op, TrafficCounter{bytes});
  return bytes;
}

// The cost of any operation, and of those that read or write less than their tensors, or multiply.
template <class Op>
Cost cost_of(const Op& op) {
  return {.bytes = traffic(op)};
}
Cost cost_of(const ops::Linear& op);
Cost cost_of(const ops::GatedLinear& op);
Cost cost_of(const ops::QkvLinear& op);   // writes these tokens' part of q, k and v
Cost cost_of(const ops::QkNormRope& op);  // likewise
Cost cost_of(const ops::Attention& op);
Cost cost_of(const ops::AttentionWithColumnSums& op);
// 4·head_dim for each query and column that it attends to, if all groups had as many queries. The
// lists must have no room left.
Cost cost_of(const ops::ColumnSparseAttention& op);
// The amount of work is in lists on the device, so only the time can be measured.
Cost cost_of(const ops::ColumnSparseMlp& op);
Cost cost_of(const ops::Conv3d& op);
Cost cost_of(const ops::Embedding& op);   // reads one table row for each row of the output
Cost cost_of(const ops::GatherRows& op);  // likewise

}  // namespace mochi::bench
