#include "bench/bench.h"

#include <algorithm>

#include "base/error.h"
#include "base/memory_usage.h"
#include "base/nearest.h"
#include "base/parallel_for.h"
#include "bench/session.h"

namespace mochi::bench {
namespace {

struct Subject {
  const char* name;
  void (*run)(Session&);
};

constexpr Subject kSubjects[] = {{"op", bench_ops},   {"dit", bench_dit}, {"sparse", bench_sparse},
                                 {"vae", bench_vae},  {"t5", bench_t5},   {"video", bench_video},
                                 {"load", bench_load}};

const Subject& find_subject(const std::string& name) {
  std::vector<std::string> known;
  for (const Subject& subject : kSubjects) {
    if (name == subject.name) return subject;
    known.emplace_back(subject.name);
  }
  fail("unknown subject '{}', {}", name, suggest_name(name, known));
}

Device choose_device(const std::string& name) {
  const std::optional<DeviceName> device = parse_device(name);
  if (!device) refuse("device", "wanted 'auto', 'cpu', 'cuda' or 'cuda:N', found '{}'", name);
  if (device->kind == DeviceKind::kCpu) return Device::cpu(device->index);
  if (device->kind == DeviceKind::kCuda) return Device::cuda(device->index);
  return find_cuda_problem().empty() ? Device::cuda() : Device::cpu();
}

DType choose_dtype(const std::string& name, Device device) {
  if (name == "fp32") return DType::kF32;
  if (name == "auto") return device.is_cpu() ? DType::kF32 : DType::kBF16;
  if (name != "bf16") refuse("dtype", "wanted 'auto', 'bf16' or 'fp32', found '{}'", name);
  if (device.is_cpu()) refuse("dtype", "activations of the CPU are fp32");
  return DType::kBF16;
}

constexpr int kMaxLayers = 1024;  // as configurations have them

void require_at_least(int least, const char* name, int value) {
  if (value < least) refuse(name, "wanted {} or more, found {}", least, value);
}

void check(const BenchRequest& request) {
  require_at_least(1, "repetitions", request.num_repetitions);
  if (request.num_layers < 0 || request.num_layers > kMaxLayers) {
    refuse("layers", "wanted 0 (all) to {}, found {}", kMaxLayers, request.num_layers);
  }
  require_at_least(1, "num_steps", request.num_steps);
  require_at_least(0, "num_threads", request.num_threads);
  if (!request.names.empty() && request.subject != "op" && request.subject != "sparse") {
    fail("'{}' is measured whole, found the name '{}'", request.subject, request.names.front());
  }
}

}  // namespace

double Ceilings::floor_of(double flops, double bytes) const {
  double floor = 0;
  if (flops_per_second > 0) floor = flops / flops_per_second;
  if (bytes_per_second > 0) floor = std::max(floor, bytes / bytes_per_second);
  return floor;
}

Session::Session(const BenchRequest& bench_request, const MeasurementFn& callback)
    : request(bench_request),
      on_measurement(callback),
      sizes(sizes_of(bench_request.size, bench_request.sparsity)),
      backend([&] {
        const Device device = choose_device(bench_request.device);
        return make_backend(device,
                            {.activation_dtype = choose_dtype(bench_request.dtype, device)});
      }()),
      oracle(make_backend(Device::cpu())) {
  report.version = version();
  report.device = backend->device().device().is_cpu() ? "cpu" : "cuda";
  report.device_name = backend->device().name();
  report.dtype = has_bf16() ? "bf16" : "fp32";
  report.num_threads = num_threads();
}

void Session::add(Measurement measurement) {
  const double floor = report.ceilings.floor_of(measurement.flops, measurement.bytes);
  if (measurement.seconds > 0) measurement.share = floor / measurement.seconds;
  report.measurements.push_back(std::move(measurement));
  if (on_measurement) on_measurement(report, report.measurements.back());
}

std::uint64_t Session::peak_bytes() const {
  return backend->device().device().is_cpu() ? peak_memory_bytes()
                                             : backend->device().memory().peak_bytes;
}

std::vector<OpTime> to_profile(const std::vector<OpTotals>& totals) {
  std::vector<OpTime> profile;
  profile.reserve(totals.size());
  for (const OpTotals& op : totals) {
    profile.push_back({op.name, op.num_calls, op.seconds, op.cost.flops, op.cost.bytes});
  }
  return profile;
}

BenchReport run_benchmark(const BenchRequest& request, const MeasurementFn& on_measurement) {
  const Subject& subject = find_subject(request.subject);
  check(request);
  set_num_threads(request.num_threads);
  Session session(request, on_measurement);
  subject.run(session);
  return std::move(session.report);
}

}  // namespace mochi::bench
