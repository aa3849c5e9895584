// Operations of any network: sums, activations and linear layers.
#pragma once

#include <functional>
#include <tuple>

#include "backend/ops/contract.h"
#include "tensor/arena.h"

namespace mochi {

enum class Activation : std::uint8_t { kNone, kSilu, kGeluTanh };

namespace ops {

// out = a + b; out may be a or b.
struct Add {
  static constexpr const char* kName = "add";
  In a, b;
  Out out;  // shapes are equal

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("a", op.a);
    f("b", op.b);
    f("out", op.out);
  }
};

// out = x·sigmoid(x); out may be x.
struct Silu {
  static constexpr const char* kName = "silu";
  In x;
  Out out;  // shaped as x

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("out", op.out);
  }
};

// out = means over blocks of rows; the mean of no rows is zero.
struct MeanRows {
  static constexpr const char* kName = "mean_rows";
  In x;                         // [rows, width]
  Out out;                      // [⌈rows / block_size⌉, width]; [1, width] with block_size 0
  std::int64_t block_size = 0;  // number of rows of a block; 0: all

  std::int64_t rows_of_block() const { return block_size > 0 ? block_size : x.dim(0); }
  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("out", op.out);
    f("block_size", op.block_size);
  }
};

// Quantises rows for 8-bit products: elements = round(x / scale), the largest of a row being ±127
// for I8 and ±448 for F8_E4M3. The scale of a row of zeros is 1.
struct QuantiseRows {
  static constexpr const char* kName = "quantise_rows";
  InDenseMatrix x;  // [rows, width], activations or a weight
  OutRows out;      // [rows, width]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("out", op.out);
  }
};

// out = act(x · weightᵀ + bias), or out += x · weightᵀ + bias. If x and the weight are quantised,
// products of I8 are summed exactly.
struct Linear {
  static constexpr const char* kName = "linear";
  InRows x;                 // [rows, k]
  InProductMatrix weight;   // [n, k]
  OptionalInF32 bias = {};  // [n]
  Out out;                  // [rows, n]
  Activation activation = Activation::kNone;
  bool accumulate = false;  // excludes an activation and 8-bit products

  void check(const Contract& c) const;
  bool is_empty() const { return x.dim(0) == 0; }
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    f("bias", op.bias);
    f("out", op.accumulate ? InOut::kRole : Out::kRole, op.out);
    f("activation", op.activation);
    f("accumulate", op.accumulate);
  }
};

// out = act(a)·b with x = (a | b).
struct GatedActivation {
  static constexpr const char* kName = "gated_activation";
  In x;  // [rows, 2·f]
  Activation activation = Activation::kNone;
  OutRows out;  // [rows, f]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("activation", op.activation);
    f("out", op.out);
  }
};

// out = act(a)·b with (a | b) = x · weightᵀ.
struct GatedLinear {
  static constexpr const char* kName = "gated_linear";
  InRows x;                // [rows, k]
  InProductMatrix weight;  // [2·f, k]
  Activation activation = Activation::kNone;
  std::reference_wrapper<Arena> scratch;  // for (a | b), where there is no fused kernel
  OutRows out;                            // [rows, f]

  void check(const Contract& c) const;
  bool is_empty() const { return x.dim(0) == 0; }
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    f("activation", op.activation);
    f("scratch", op.scratch);
    f("out", op.out);
  }
};

using DenseOps =
    std::tuple<Add, Silu, MeanRows, QuantiseRows, Linear, GatedActivation, GatedLinear>;

}  // namespace ops
}  // namespace mochi
