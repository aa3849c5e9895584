// Operations of the text encoder.
#pragma once

#include <span>
#include <tuple>

#include "backend/ops/contract.h"

namespace mochi::ops {

// out = rows `ids` of the table; every id must be in range.
struct Embedding {
  static constexpr const char* kName = "embedding";
  std::span<const std::int32_t> ids;  // [n], on the host
  InDenseMatrix table;                // [vocabulary, width]
  Out out;                            // [n, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("ids", op.ids);
    f("table", op.table);
    f("out", op.out);
  }
};

// out = x / rms(x) · weight, for each row.
struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  In x;          // [rows, width]
  InF32 weight;  // [width]
  float eps;
  Out out;  // [rows, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    f("eps", op.eps);
    f("out", op.out);
  }
};

using TextOps = std::tuple<Embedding, RmsNorm>;

}  // namespace mochi::ops
