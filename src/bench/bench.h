// The measurements of `mochi bench`: operations and networks on random values. The only header of
// this folder that other folders include.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/stop.h"
#include "mochi/compute.h"
#include "mochi/sparsity.h"
#include "mochi/weight_format.h"

namespace mochi::bench {

struct BenchRequest {
  std::string subject;             // "op", "dit", "sparse", "vae", "t5", "video" or "load"
  std::vector<std::string> names;  // "op", "sparse": names that contain one of these; empty: all
  std::string device = "auto";     // or "cpu", "cuda"
  std::string dtype = "auto";      // activations: "bf16" or "fp32"
  std::string size = "full";       // or "micro"
  // Precision of the matrices of "dit", "sparse", "t5", "video" and "load"; nothing: that of the
  // file or, for random weights, of the activations.
  std::optional<WeightFormat> weights;
  // Types in which the transformer's linear layers multiply in "dit", "sparse" and "video";
  // nothing: kBf16.
  std::optional<ComputePlan> compute;
  SparsityConfig sparsity = {};  // for "op" and "sparse"
  std::vector<int> num_frames;   // videos to measure; empty: the size's own
  int num_layers = 0;            // for "dit" and "t5"; 0: all
  int num_steps = 8;             // for "video"
  int num_repetitions = 5;
  int num_threads = 0;
  std::filesystem::path file;  // for "load"
  bool is_profiled = false;    // networks: time of each operation
  StopFn should_stop = {};     // asked between operations and between the blocks of a network
};

struct Ceilings {
  double flops_per_second = 0;  // a large matmul
  double bytes_per_second = 0;  // a large copy
  // The least time, in seconds; 0 if unknown.
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
  double share = 0;             // floor / seconds for the nearer ceiling; 0: unknown
  // Compared with the oracle; absent if there is nothing to compare.
  std::optional<double> relative_error;
  double max_error = 0;
  std::string problem;  // why it could not be measured

  // Networks only.
  std::int64_t num_tokens = 0;
  int num_frames = 0;
  std::uint64_t weight_bytes = 0, peak_bytes = 0;  // device memory; of the CPU the process's peak
  std::optional<double> launch_seconds;            // that the host needs to launch all of it
  // Sparse passes only.
  double kept_fraction = 0;              // share of columns, first sparse layer
  std::uint64_t host_bytes = 0;          // pinned, for offloaded caches
  std::optional<double> waited_seconds;  // for copies, with a wait per operation
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

// Called for each as soon as it is measured; an exception ends the benchmark.
using MeasurementFn = std::function<void(const BenchReport& so_far, const Measurement&)>;

// Verifies, then times. Results that are wrong are reported as such and do not end it. Throws Error
// naming the field when the request is wrong, and when there is no such device; Cancelled when the
// work should stop.
BenchReport run_benchmark(const BenchRequest& request, const MeasurementFn& on_measurement = {});

// The measurements as JSON text.
std::string to_json(const BenchReport& report, const BenchRequest& request);
// An SVG file: seconds and memory over the length of the video. The report holds two or more
// lengths.
std::string draw_growth(const BenchReport& report);

}  // namespace mochi::bench
