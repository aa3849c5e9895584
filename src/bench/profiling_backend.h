// A backend around another one that counts the work of each operation and can time it. While it
// times, it waits for the device after every operation, so the sum of these times is longer than
// the same work takes without profiling. It must not run while operations are captured.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "bench/op_cost.h"

namespace mochi::bench {

enum class OpKind : unsigned char { kProduct, kAttention, kConvolution, kOther };

struct OpTotals {
  std::string name;  // matmuls and convolutions with their features: "linear 3072→9216"
  OpKind kind = OpKind::kOther;
  int num_calls = 0;
  double seconds = 0;  // 0 where nothing is timed
  Cost cost;
};

class ProfilingBackend final : public Launches<ProfilingBackend, Backend> {
 public:
  // `inner` must outlive this.
  ProfilingBackend(Backend& inner, bool is_timing)
      : Launches(inner.shared_device()), inner_(inner), is_timing_(is_timing) {}

  const std::vector<OpTotals>& totals() const { return totals_; }  // in order of the first calls
  Cost total_cost() const;

  template <class Op>
  void launch(const Op& op) {
    const Cost cost = cost_of(measured(op));
    const auto start = std::chrono::steady_clock::now();
    inner_.run(op);
    if (is_timing_) device().synchronize();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    add(name_of(op), kind_of(op), cost, taken.count());
  }
  // The time that operations wait for a copy; copies themselves are not timed.
  void launch(const ops::Await& op);

 private:
  // The operation with the filled part of its lists, which have room for more.
  template <class Op>
  static Op measured(Op op) {
    return op;
  }
  ops::ColumnSparseAttention measured(ops::ColumnSparseAttention op) const {
    op.columns = filled_part(op.columns);
    return op;
  }
  ops::ExpandColumns measured(ops::ExpandColumns op) const {
    op.lists = filled_part(op.lists);
    return op;
  }
  ColumnLists filled_part(const ColumnLists& lists) const;

  template <class Op>
  static std::string name_of(const Op& /*op*/) {
    return Op::kName;
  }
  static std::string name_of(const ops::Linear& op);
  static std::string name_of(const ops::GatedLinear& op);
  static std::string name_of(const ops::QkvLinear& op);
  static std::string name_of(const ops::Conv3d& op);
  static std::string name_of(const ops::Widen& op);

  template <class Op>
  static OpKind kind_of(const Op& /*op*/) {
    return OpKind::kOther;
  }
  static OpKind kind_of(const ops::Linear& /*op*/) { return OpKind::kProduct; }
  static OpKind kind_of(const ops::GatedLinear& /*op*/) { return OpKind::kProduct; }
  static OpKind kind_of(const ops::QkvLinear& /*op*/) { return OpKind::kProduct; }
  static OpKind kind_of(const ops::ColumnSparseMlp& /*op*/) { return OpKind::kProduct; }
  static OpKind kind_of(const ops::Attention& /*op*/) { return OpKind::kAttention; }
  static OpKind kind_of(const ops::AttentionWithColumnSums& /*op*/) { return OpKind::kAttention; }
  static OpKind kind_of(const ops::ColumnSparseAttention& /*op*/) { return OpKind::kAttention; }
  static OpKind kind_of(const ops::Conv3d& /*op*/) { return OpKind::kConvolution; }

  void add(const std::string& name, OpKind kind, const Cost& cost, double seconds);

  Backend& inner_;
  bool is_timing_;
  std::vector<OpTotals> totals_;
};

}  // namespace mochi::bench
