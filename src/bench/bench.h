// What `mochi bench` measures: the operations and the networks on random values. All that others
// see of this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi::bench {

struct BenchRequest {
  std::string subject;             // "op", "dit", "sparse", "vae", "t5", "video" or "load"
  std::vector<std::string> names;  // of "op", "sparse": those that contain one of them; empty: all
  std::string device = "auto";     // or "cpu", "cuda"
  std::string dtype = "auto";      // of activations: "bf16" or "fp32"
  std::string size = "full";       // or "micro"
  SparsityConfig sparsity = {};    // of "op" and "sparse"
  std::vector<int> num_frames;     // videos to measure; empty: the size's own
  int num_layers = 0;              // of "dit" and "t5"; 0: all
  int num_steps = 8;               // of "video"
  int num_repetitions = 5;
  int num_threads = 0;
  std::filesystem::path file;  // of "load"
  bool is_profiled = false;    // networks: what each operation takes
};

struct Ceilings {
  double flops_per_second = 0;  // a large product
  double bytes_per_second = 0;  // a large copy
  // The least time, in seconds; 0 when nothing is known.
  double floor_of(double flops, double bytes) const;
};

struct OpTime {
  std::string name;
  int num_calls = 0;
  double seconds = 0;
  double flops = 0, bytes = 0;
};

struct Measurement {
  std::string name, size;
  double seconds = 0;  // the median of the repetitions
  double fastest = 0, slowest = 0;
  int num_repetitions = 0;
  double flops = 0, bytes = 0;  // bytes 0: not counted
  double share = 0;             // of the ceiling that is nearer: floor / seconds; 0: unknown
  // Against the oracle; not there where there is nothing to compare.
  std::optional<double> relative_error;
  double max_error = 0;
  std::string problem;  // why it could not be measured

  // Of networks.
  std::int64_t num_tokens = 0;
  int num_frames = 0;
  std::uint64_t weight_bytes = 0, peak_bytes = 0;  // device memory; of the CPU the process's peak
  std::optional<double> launch_seconds;            // that the host needs to ask for all of it
  // Of sparse forwards.
  double kept_fraction = 0;              // of the columns, at the first sparse layer
  std::uint64_t host_bytes = 0;          // pinned, for caches that are not on the device
  std::optional<double> waited_seconds;  // for copies, while each operation is waited for
  std::vector<OpTime> profile;

  bool is_right() const {
    return problem.empty() && !(relative_error && !(*relative_error <= max_error));
  }
};

struct BenchReport {
  std::string version;
  std::string device, device_name, dtype;
  int num_threads = 0;
  Ceilings ceilings;
  std::vector<Measurement> measurements;
};

// Called for each as soon as it is measured; what it throws ends the benchmark.
using MeasurementFn = std::function<void(const BenchReport& so_far, const Measurement&)>;

// Verifies, then times. Results that are wrong are reported as such and do not end it. Throws Error
// naming the field when the request is wrong, and when there is no such device.
BenchReport run_benchmark(const BenchRequest& request, const MeasurementFn& on_measurement = {});

}  // namespace mochi::bench
