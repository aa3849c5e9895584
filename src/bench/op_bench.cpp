#include "bench/op_bench.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/nearest.h"
#include "bench/measure.h"

namespace mochi::bench {
namespace {

// Runs rotate through inputs of this size, at most kMaxSets sets, so that caches do not keep them.
constexpr double kRotatedBytes = 256e6;
constexpr int kMaxSets = 4;

bool is_wanted(const OpCase& op, const std::vector<std::string>& names) {
  return names.empty() || std::ranges::any_of(names, [&op](const std::string& name) {
           return op.name.find(name) != std::string::npos;
         });
}

void measure_into(Session& session, const OpCase& op, Measurement& result) {
  ProfilingBackend counting(*session.backend, /*is_timing=*/false);
  std::vector<std::unique_ptr<RandomInputs>> sets;
  std::vector<OpTask> tasks;
  const auto add_set = [&] {
    sets.push_back(std::make_unique<RandomInputs>(*session.backend, session.next_seed++));
    tasks.push_back(op.make(*sets.back(), op.num_rows));
  };
  add_set();
  result.relative_error =
      verify_op(op, *sets.front(), tasks.front(), *session.backend, *session.oracle);
  tasks.front()(counting);
  const Cost cost = counting.total_cost();
  result.flops = cost.flops;
  result.bytes = cost.bytes;
  while (static_cast<double>(sets.size()) * cost.bytes < kRotatedBytes && sets.size() < kMaxSets) {
    add_set();
  }
  std::vector<Task> runs;
  runs.reserve(tasks.size());
  for (const OpTask& task : tasks) {
    runs.emplace_back([&] {
      if (session.should_stop()) throw Cancelled();
      task(*session.backend);
    });
  }
  const Timing timing = time_batches(*session.backend, runs, session.request.num_repetitions,
                                     session.sizes.batch_seconds);
  result.seconds = timing.seconds;
  result.fastest = timing.fastest;
  result.slowest = timing.slowest;
  result.num_repetitions = timing.num_batches * timing.batch_size;
}

}  // namespace

std::vector<OpCase> choose_cases(const std::vector<OpCase>& cases,
                                 const std::vector<std::string>& names) {
  std::vector<std::string> known;
  known.reserve(cases.size());
  for (const OpCase& op : cases) known.push_back(op.name);
  for (const std::string& name : names) {
    const bool is_known = std::ranges::any_of(
        known, [&name](const std::string& one) { return one.find(name) != std::string::npos; });
    if (!is_known) fail("unknown operation '{}', {}", name, suggest_name(name, known));
  }
  std::vector<OpCase> chosen;
  std::ranges::copy_if(cases, std::back_inserter(chosen),
                       [&names](const OpCase& op) { return is_wanted(op, names); });
  return chosen;
}

double max_op_error(DType activation_dtype) {
  return activation_dtype == DType::kBF16 ? 6e-3 : 1e-4;
}

double verify_op(const OpCase& op, RandomInputs& all, const OpTask& task, Backend& device,
                 Backend& oracle) {
  if (op.find_error) {
    task(device);
    return op.find_error(all, device, oracle);
  }
  LastRows last(oracle, device, all);
  const OpTask oracle_task = op.make(last, std::min(op.num_verified, op.num_rows));
  task(device);
  oracle_task(oracle);
  double largest = 0;
  for (std::size_t i = 0; i < last.outputs().size(); ++i) {
    const auto& [tensor, row_axis] = all.outputs().at(i);
    const TensorView& of_oracle = last.outputs()[i].tensor;
    const Shape& shape = of_oracle.shape();
    const Tensor wanted = download_last_rows(oracle, of_oracle, shape, row_axis);
    const Tensor found = download_last_rows(device, tensor, shape, row_axis);
    const double error = relative_error(found, wanted);
    if (!std::isfinite(error)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, error);
  }
  return largest;
}

Measurement measure_op(Session& session, const OpCase& op) {
  Measurement result;
  result.name = op.name;
  result.size = op.size;
  result.max_error = max_op_error(session.backend->activation_dtype());
  try {
    measure_into(session, op, result);
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& error) {
    result.problem = error.what();  // other operations may still run
  }
  return result;
}

void measure_ceilings(Session& session) {
  Measurement product = measure_op(session, product_ceiling(session.sizes));
  Measurement copy = measure_op(session, copy_ceiling(session.sizes));
  Ceilings& ceilings = session.report.ceilings;
  if (product.problem.empty()) ceilings.flops_per_second = product.flops / product.seconds;
  if (copy.problem.empty()) ceilings.bytes_per_second = copy.bytes / copy.seconds;
  session.add(std::move(product));
  session.add(std::move(copy));
}

void bench_ops(Session& session) {
  const std::vector<OpCase> cases =
      choose_cases(list_op_cases(session.sizes), session.request.names);
  measure_ceilings(session);
  for (const OpCase& op : cases) session.add(measure_op(session, op));
}

}  // namespace mochi::bench
