#include "bench/network.h"

#include <chrono>

namespace mochi::bench {

Tensor download_values(Backend& device, const MatrixView& parameter) {
  if (parameter.is_dense()) {
    return download_last_rows(device, parameter.values(), parameter.shape(), kNoRows);
  }
  const Tensor dense(parameter.dtype(), parameter.shape(), device.allocator());
  device.run(ops::Widen{.matrix = parameter, .out = dense});
  return download_last_rows(device, dense, parameter.shape(), kNoRows);
}

MatrixView copy_parameter(Backend& device, Backend& oracle, const MatrixView& parameter,
                          std::deque<Tensor>& tensors) {
  const auto upload = [&](const Tensor& host) {
    const TensorView& view = host.view();
    const Tensor& copy = tensors.emplace_back(view.dtype(), view.shape(), oracle.allocator());
    oracle.run(ops::Upload{.host = host, .target = copy});
    return copy.view();
  };
  if (!parameter.is_quantised()) return upload(download_values(device, parameter));
  const auto copy = [&](const TensorView& source) {
    const Tensor host(source.dtype(), source.shape());
    device.run(ops::Download{.source = source, .host = host});
    return upload(host);
  };
  return {copy(parameter.values()), copy(parameter.scales())};
}

double max_network_error(DType activation_dtype) {
  return activation_dtype == DType::kBF16 ? 4e-2 : 1e-3;
}

void measure_network(Session& session, const std::function<void(Backend&)>& run,
                     Measurement& result, bool is_profiled) {
  Backend& backend = *session.backend;
  backend.device().restart_peak();
  const Timing timing = time_batches(backend, {[&] { run(backend); }},
                                     session.request.num_repetitions, session.sizes.batch_seconds);
  result.seconds = timing.seconds;
  result.fastest = timing.fastest;
  result.slowest = timing.slowest;
  result.num_repetitions = timing.num_batches * timing.batch_size;
  result.peak_bytes = session.peak_bytes();
  if (!is_profiled) return;
  ProfilingBackend profiling(backend, /*is_timing=*/true);
  run(profiling);
  result.profile = to_profile(profiling.totals());
}

void measure_network(Session& session, const std::function<void(Backend&)>& run,
                     Measurement& result) {
  measure_network(session, run, result, session.request.is_profiled);
}

double measure_launches(Backend& backend, const Task& run) {
  constexpr int kNumRuns = 5;
  run();
  std::vector<double> seconds;
  for (int i = 0; i < kNumRuns; ++i) {
    backend.device().synchronize();
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds.push_back(taken.count());
  }
  backend.device().synchronize();
  return median(seconds);
}

}  // namespace mochi::bench
