// Operations that move and convert tensors.
#pragma once

#include <tuple>

#include "backend/ops/contract.h"
#include "backend/transfer.h"

namespace mochi::ops {

// target = host memory. The host memory may be reused when the call returns.
struct Upload {
  static constexpr const char* kName = "upload";
  Operand<Access::kRead, Elements::kAny, false, Place::kHost> host;
  Operand<Access::kWrite, Elements::kAny> target;  // same dtype and shape

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("host", op.host);
    f("target", op.target);
  }
};

// host = source. Waits for the device.
struct Download {
  static constexpr const char* kName = "download";
  Operand<Access::kRead, Elements::kAny> source;
  Operand<Access::kWrite, Elements::kAny, false, Place::kHost> host;  // same dtype and shape

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("source", op.source);
    f("host", op.host);
  }
};

// Operations launched later may use the target of the copy, and may overwrite its source.
struct Await {
  static constexpr const char* kName = "await";
  Transfer& transfer;  // at once if nothing is in progress; afterwards nothing is

  void check(const Contract& /*c*/) const {}
  static void visit(auto& op, const auto& f) { f("transfer", op.transfer); }
};

// target = source with values converted.
struct Copy {
  static constexpr const char* kName = "copy";
  Operand<Access::kRead, Elements::kF32OrActivation> source;
  Operand<Access::kWrite, Elements::kF32OrActivation> target;  // as many elements

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("source", op.source);
    f("target", op.target);
  }
};

// target = mean + deviation·fill_normal(kMochi, seed). The values are equal on every device.
struct FillNormal {
  static constexpr const char* kName = "fill_normal";
  Operand<Access::kWrite, Elements::kF32OrMatrix> target;
  std::uint64_t seed = 0;
  float mean = 0.0F, deviation = 1.0F;

  void check(const Contract& /*c*/) const {}
  static void visit(auto& op, const auto& f) {
    f("target", op.target);
    f("seed", op.seed);
    f("mean", op.mean);
    f("deviation", op.deviation);
  }
};

// out = the values of `matrix`, rounded to its dtype.
struct Widen {
  static constexpr const char* kName = "widen";
  InStored matrix;                                 // [rows, columns]
  Operand<Access::kWrite, Elements::kMatrix> out;  // [rows, columns] of the matrix's dtype

  void check(const Contract& c) const;
  bool is_empty() const { return matrix.num_elements() == 0; }
  static void visit(auto& op, const auto& f) {
    f("matrix", op.matrix);
    f("out", op.out);
  }
};

// out = the transpose of x.
struct Transpose {
  static constexpr const char* kName = "transpose";
  InMatrix x;                                      // [rows, columns]
  Operand<Access::kWrite, Elements::kMatrix> out;  // [columns, rows] of the matrix's dtype

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("out", op.out);
  }
};

// out = rows `indices` of x; every index must be in range.
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  In x;           // [rows, width]
  InI32 indices;  // [n]
  Out out;        // [n, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("indices", op.indices);
    f("out", op.out);
  }
};

using MemoryOps =
    std::tuple<Upload, Download, Await, Copy, FillNormal, Widen, Transpose, GatherRows>;

}  // namespace mochi::ops
