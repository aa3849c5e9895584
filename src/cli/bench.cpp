#include "cli/bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/parallel_for.h"
#include "cli/generate_options.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "flags/usage_error.h"
#include "job/bundled.h"
#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

using bench::BenchReport;
using bench::Measurement;
using bench::OpTime;

constexpr double kGigabyte = 1e9;

// "4.03 ms"
std::string format_duration(double seconds) {
  if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.2f} us", seconds * 1e6);
}

// The rate of matmuls where there are any, else that of memory.
std::string format_rate(double seconds, double flops, double bytes) {
  if (seconds <= 0) return "";
  if (flops > 0) return fmt::format("{:.2f} TFLOP/s", flops / seconds * 1e-12);
  return bytes > 0 ? fmt::format("{:.1f} GB/s", bytes / seconds / kGigabyte) : "";
}

std::string format_share(double share) {
  return share > 0 ? fmt::format("{:.0f} %", 100 * share) : "";
}

void print_profile(const BenchReport& report, const Measurement& measurement) {
  double total = 0;
  for (const OpTime& op : measurement.profile) total += op.seconds;
  for (const OpTime& op : measurement.profile) {
    const double floor = report.ceilings.floor_of(op.flops, op.bytes);
    print_line("  {:<30} {:>6} x {:>12} {:>6.1f} % {:>16} {:>6}", op.name, op.num_calls,
               format_duration(op.seconds), 100 * op.seconds / total,
               format_rate(op.seconds, op.flops, op.bytes),
               format_share(op.seconds > 0 ? floor / op.seconds : 0));
  }
  print_line("  {:<30} {:>8} {:>12}", "sum, synchronised after each", "", format_duration(total));
}

void print_measurement(const BenchReport& report, const Measurement& measurement) {
  if (report.measurements.size() == 1) {
    print_line("mochi {} on {} ({}), activations {}", report.version, report.device_name,
               report.device, report.dtype);
    print_line("{:<45} {:<34} {:>12} {:>16} {:>6} {:>9}", "what", "size", "median", "rate", "share",
               "error");
  }
  std::string error = measurement.relative_error
                          ? fmt::format("{:.1e}", *measurement.relative_error)
                          : std::string();
  if (!measurement.is_right()) error += " !";
  print_line("{:<45} {:<34} {:>12} {:>16} {:>6} {:>9}", measurement.name, measurement.size,
             measurement.seconds > 0 ? format_duration(measurement.seconds) : "-",
             format_rate(measurement.seconds, measurement.flops, measurement.bytes),
             format_share(measurement.share), error);
  if (!measurement.problem.empty()) print_line("  {}", measurement.problem);
  if (measurement.peak_bytes > 0) {
    print_line("  peak memory: {:.2f} GB, {:.2f} GB of it weights",
               static_cast<double>(measurement.peak_bytes) / kGigabyte,
               static_cast<double>(measurement.weight_bytes) / kGigabyte);
  }
  if (measurement.kept_fraction > 0) {
    print_line("  columns kept: {:.1f} %", 100 * measurement.kept_fraction);
  }
  if (measurement.host_bytes > 0) {
    print_line("  pinned host memory: {:.2f} GB",
               static_cast<double>(measurement.host_bytes) / kGigabyte);
  }
  if (measurement.waited_seconds) {
    print_line("  waiting for copies: {}, {:.2f} %", format_duration(*measurement.waited_seconds),
               100 * *measurement.waited_seconds / measurement.seconds);
  }
  if (measurement.launch_seconds) {
    print_line("  host: {} to launch the work, {:.2f} %",
               format_duration(*measurement.launch_seconds),
               100 * *measurement.launch_seconds / measurement.seconds);
  }
  if (!measurement.profile.empty()) print_profile(report, measurement);
}

// The request with the bundled sparsity where the subject needs one.
bench::BenchRequest complete_request(bench::BenchRequest request) {
  if (request.subject == "op" || request.subject == "sparse") {
    request.sparsity = load_sparsity_config(job::find_bundled_sparsity()).config;
  }
  return request;
}

void check_flags(const BenchOptions& options) {
  const std::string& subject = options.request.subject;
  if (!options.request.file.empty() && subject != "load") {
    throw flags::UsageError("--file: works with 'load' only");
  }
  if (options.request.is_profiled && (subject == "op" || subject == "video" || subject == "load")) {
    throw flags::UsageError("--profile: works with 'dit', 'sparse', 'vae' and 't5' only");
  }
  if (options.request.weights && (subject == "op" || subject == "vae")) {
    throw flags::UsageError("--weights: works with 'dit', 'sparse', 't5', 'video' and 'load' only");
  }
  const bool has_dit = subject == "dit" || subject == "sparse" || subject == "video";
  if (options.request.compute && !has_dit) {
    throw flags::UsageError("--compute: works with 'dit', 'sparse' and 'video' only");
  }
  if (!options.plot_file) return;
  if (options.request.num_frames.size() < 2) {
    throw flags::UsageError("--plot: wanted two or more lengths in --num-frames");
  }
  if (subject != "dit" && subject != "vae") {
    throw flags::UsageError("--plot: works with 'dit' and 'vae' only");
  }
}

}  // namespace

void add_bench_flags(CLI::App& command, BenchOptions& options) {
  bench::BenchRequest& request = options.request;
  command.add_option("subject", request.subject, "what to measure, with random weights")
      ->type_name("op|dit|sparse|vae|t5|video|load")
      ->required();
  command
      .add_option("names", request.names,
                  "op and sparse only: those whose name contains one of these")
      ->type_name("NAME");
  command.add_option("--size", request.size, "Mochi 1's sizes, or ones that a laptop can handle")
      ->type_name("full|micro")
      ->capture_default_str();
  command
      .add_option("--num-frames", request.num_frames,
                  "lengths of the video, for dit, sparse, vae and video (default: 163)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("INT,...");
  command
      .add_option("--layers", request.num_layers,
                  "number of layers, for dit, sparse, t5 and video; 0: all")
      ->capture_default_str();
  add_weights_flag(command, request.weights);
  add_compute_flag(command, request.compute);
  command.add_option("--num-steps", request.num_steps, "sampling steps, for video")
      ->capture_default_str();
  command
      .add_option("--repetitions", request.num_repetitions,
                  "how often to measure; the median is reported")
      ->capture_default_str();
  command.add_flag("--profile", request.is_profiled,
                   "dit, sparse, vae and t5 only: time of each operation");
  command.add_option("--file", request.file, "load only: a transformer's .safetensors file")
      ->type_name("FILE");
  command.add_option("--json", options.json_file, "write the measurements as JSON")
      ->type_name("FILE");
  command.add_option("--plot", options.plot_file, "draw time and memory over the lengths as .svg")
      ->type_name("FILE");
  command.add_option("--device", request.device, "device that runs the networks")
      ->type_name(kDeviceType)
      ->capture_default_str();
  command.add_option("--dtype", request.dtype, "type of the activations")
      ->type_name("auto|fp32|bf16")
      ->capture_default_str();
  command
      .add_option("--threads", request.num_threads,
                  "number of CPU threads; 0: OMP_NUM_THREADS, or all cores")
      ->capture_default_str();
}

void run_bench(const BenchOptions& options) {
  check_flags(options);
  std::optional<AtomicFile> json_file;  // better now than after the work
  std::optional<AtomicFile> plot_file;
  if (options.json_file) {
    json_file.emplace(*options.json_file, SpecialFile::kWriteThrough, was_interrupted);
  }
  if (options.plot_file) {
    plot_file.emplace(*options.plot_file, SpecialFile::kWriteThrough, was_interrupted);
  }
  bench::BenchRequest request = complete_request(options.request);
  request.should_stop = was_interrupted;
  set_activity(Activity::kWorking);
  const StopScope stop(request.should_stop);  // operations on the CPU take up to minutes
  const BenchReport report =
      bench::run_benchmark(request, [](const BenchReport& so_far, const Measurement& measurement) {
        print_measurement(so_far, measurement);
        if (was_interrupted()) throw Cancelled();
      });
  if (json_file) {
    json_file->write(bench::to_json(report, options.request));
    json_file->commit();
  }
  if (plot_file) {
    plot_file->write(bench::draw_growth(report));
    plot_file->commit();
  }
  for (const Measurement& measurement : report.measurements) {
    if (!measurement.problem.empty()) {
      fail("{} {}: {}", measurement.name, measurement.size, measurement.problem);
    }
    if (!measurement.is_right()) {
      fail("{} {}: relative error {:.1e} is above the limit of {:.1e}", measurement.name,
           measurement.size, measurement.relative_error.value_or(0), measurement.max_error);
    }
  }
}

}  // namespace mochi::cli
