#include "bench/profiling_backend.h"

#include <fmt/format.h>

#include <algorithm>

namespace mochi::bench {
namespace {

std::string name_product(const char* op, const MatrixView& weight) {
  return fmt::format("{} {}→{}{}", op, weight.dim(1), weight.dim(0),
                     weight.is_quantised() ? fmt::format(", {}", dtype_name(weight.dtype())) : "");
}

}  // namespace

Cost ProfilingBackend::total_cost() const {
  Cost cost;
  for (const OpTotals& op : totals_) cost += op.cost;
  return cost;
}

void ProfilingBackend::add(const std::string& name, OpKind kind, const Cost& cost, double seconds) {
  auto found = std::ranges::find(totals_, name, &OpTotals::name);
  if (found == totals_.end()) {
    found = totals_.insert(found, OpTotals{.name = name, .kind = kind, .cost = {}});
  }
  ++found->num_calls;
  if (is_timing_) found->seconds += seconds;
  found->cost += cost;
}

void ProfilingBackend::launch(const ops::Await& op) {
  if (!op.transfer.is_pending()) return;
  const auto start = std::chrono::steady_clock::now();
  inner_.run(op);
  if (is_timing_) device().synchronize();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  add(ops::Await::kName, OpKind::kOther, {}, taken.count());
}

ColumnLists ProfilingBackend::filled_part(const ColumnLists& lists) const {
  ColumnLists filled = lists;
  const std::int64_t num_lists = lists.offsets.dim(0) - 1;
  std::int32_t total = 0;
  inner_.run(ops::Download{.source = lists.offsets.rows(num_lists, num_lists + 1),
                           .host = TensorView(&total, DType::kI32, {1})});
  filled.columns = lists.columns.rows(0, total);
  return filled;
}

std::string ProfilingBackend::name_of(const ops::Linear& op) {
  return name_product(op.kName, op.weight);
}

std::string ProfilingBackend::name_of(const ops::GatedLinear& op) {
  return name_product(op.kName, op.weight);
}

std::string ProfilingBackend::name_of(const ops::QkvLinear& op) {
  return name_product(op.kName, op.weight);
}

std::string ProfilingBackend::name_of(const ops::Conv3d& op) {
  return fmt::format("{} {}→{}", op.kName, op.x.dim(3), op.out.dim(3));
}

std::string ProfilingBackend::name_of(const ops::Widen& op) {
  return fmt::format("{} {}", op.kName, storage_type_name(op.matrix.type()));
}

}  // namespace mochi::bench
