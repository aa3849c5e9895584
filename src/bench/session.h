// State that all benchmarks of one call share: the device, the oracle and the report.
#pragma once

#include <memory>

#include "bench/bench.h"
#include "bench/profiling_backend.h"
#include "bench/sizes.h"
#include "weights/weights.h"

namespace mochi::bench {

struct Session {
  const BenchRequest& request;
  const MeasurementFn& on_measurement;  // may be empty
  Sizes sizes;
  std::unique_ptr<Backend> backend;  // the measured one
  std::unique_ptr<Backend> oracle;   // the CPU's, in F32
  std::uint64_t next_seed = 1;
  BenchReport report;

  Session(const BenchRequest& bench_request, const MeasurementFn& callback);

  bool has_bf16() const { return backend->activation_dtype() == DType::kBF16; }
  MatrixStorage storage() const {
    return {backend->device().preferred_matrix_dtype(), request.weights,
            request.compute.value_or(ComputePlan{})};
  }
  bool should_stop() const { return request.should_stop && request.should_stop(); }
  void add(Measurement measurement);
  // Device memory since restart_peak(); on the CPU, the process's peak.
  std::uint64_t peak_bytes() const;
};

std::vector<OpTime> to_profile(const std::vector<OpTotals>& totals);

void bench_ops(Session& session);
void bench_dit(Session& session);
void bench_sparse(Session& session);
void bench_vae(Session& session);
void bench_t5(Session& session);
void bench_video(Session& session);
void bench_load(Session& session);

}  // namespace mochi::bench
