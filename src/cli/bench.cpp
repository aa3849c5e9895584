#include "cli/bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/flag_names.h"
#include "cli/interrupt.h"
#include "report/svg_plot.h"
#include "cli/usage_error.h"
#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
using bench::BenchReport;
using bench::Measurement;
using bench::OpTime;

constexpr double kGigabyte = 1e9;

// "4.03 ms"
std::string format_seconds(double seconds) {
  if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.2f} us", seconds * 1e6);
}

// What the time goes into: products where there are any, else memory.
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
    fmt::print("  {:<30} {:>6} x {:>12} {:>6.1f} % {:>16} {:>6}\n", op.name, op.num_calls,
               format_seconds(op.seconds), 100 * op.seconds / total,
               format_rate(op.seconds, op.flops, op.bytes),
               format_share(op.seconds > 0 ? floor / op.seconds : 0));
  }
  fmt::print("  {:<30} {:>8} {:>12}\n", "all, waiting after each", "", format_seconds(total));
}

void print_measurement(const BenchReport& report, const Measurement& measurement) {
  if (report.measurements.size() == 1) {
    fmt::print("mochi {} on {} ({}), activations {}\n", report.version, report.device_name,
               report.device, report.dtype);
    fmt::print("{:<45} {:<34} {:>12} {:>16} {:>6} {:>9}\n", "what", "size", "median", "rate",
               "share", "error");
  }
  std::string error = measurement.relative_error
                          ? fmt::format("{:.1e}", *measurement.relative_error)
                          : std::string();
  if (!measurement.is_right()) error += " !";
  fmt::print("{:<45} {:<34} {:>12} {:>16} {:>6} {:>9}\n", measurement.name, measurement.size,
             measurement.seconds > 0 ? format_seconds(measurement.seconds) : "-",
             format_rate(measurement.seconds, measurement.flops, measurement.bytes),
             format_share(measurement.share), error);
  if (!measurement.problem.empty()) fmt::print("  {}\n", measurement.problem);
  if (measurement.peak_bytes > 0) {
    fmt::print("  memory: {:.2f} GB at most, of which weights {:.2f} GB\n",
               static_cast<double>(measurement.peak_bytes) / kGigabyte,
               static_cast<double>(measurement.weight_bytes) / kGigabyte);
  }
  if (measurement.kept_fraction > 0) {
    fmt::print("  columns kept: {:.1f} %\n", 100 * measurement.kept_fraction);
  }
  if (measurement.host_bytes > 0) {
    fmt::print("  pinned host memory: {:.2f} GB\n",
               static_cast<double>(measurement.host_bytes) / kGigabyte);
  }
  if (measurement.waited_seconds) {
    fmt::print("  waiting for copies: {}, {:.2f} %\n", format_seconds(*measurement.waited_seconds),
               100 * *measurement.waited_seconds / measurement.seconds);
  }
  if (measurement.launch_seconds) {
    fmt::print("  host: {} to ask for it, {:.2f} %\n", format_seconds(*measurement.launch_seconds),
               100 * *measurement.launch_seconds / measurement.seconds);
  }
  if (!measurement.profile.empty()) print_profile(report, measurement);
  std::fflush(stdout);  // full-size measurements take their time
}

OrderedJson to_json(const OpTime& op) {
  return {{"name", op.name},
          {"calls", op.num_calls},
          {"seconds", op.seconds},
          {"flop", op.flops},
          {"bytes", op.bytes}};
}

OrderedJson to_json(const Measurement& measurement) {
  OrderedJson json{{"name", measurement.name},       {"size", measurement.size},
                   {"seconds", measurement.seconds}, {"fastest", measurement.fastest},
                   {"slowest", measurement.slowest}, {"repetitions", measurement.num_repetitions},
                   {"flop", measurement.flops},      {"bytes", measurement.bytes},
                   {"share", measurement.share}};
  if (measurement.relative_error) {
    json["relative_error"] = *measurement.relative_error;
    json["max_error"] = measurement.max_error;
  }
  if (!measurement.problem.empty()) json["problem"] = measurement.problem;
  if (measurement.num_tokens > 0) json["tokens"] = measurement.num_tokens;
  if (measurement.num_frames > 0) json["frames"] = measurement.num_frames;
  if (measurement.peak_bytes > 0) {
    json["peak_bytes"] = measurement.peak_bytes;
    json["weight_bytes"] = measurement.weight_bytes;
  }
  if (measurement.launch_seconds) json["launch_seconds"] = *measurement.launch_seconds;
  if (measurement.kept_fraction > 0) json["kept_fraction"] = measurement.kept_fraction;
  if (measurement.host_bytes > 0) json["host_bytes"] = measurement.host_bytes;
  if (measurement.waited_seconds) json["waited_seconds"] = *measurement.waited_seconds;
  for (const OpTime& op : measurement.profile) json["profile"].push_back(to_json(op));
  return json;
}

OrderedJson to_json(const BenchReport& report, const bench::BenchRequest& request) {
  OrderedJson json{{"subject", request.subject},
                   {"size", request.size},
                   {"version", report.version},
                   {"device", report.device},
                   {"device_name", report.device_name},
                   {"dtype", report.dtype},
                   {"threads", report.num_threads},
                   {"ceilings",
                    {{"flop_per_second", report.ceilings.flops_per_second},
                     {"bytes_per_second", report.ceilings.bytes_per_second}}}};
  json["measurements"] = OrderedJson::array();
  for (const Measurement& measurement : report.measurements) {
    json["measurements"].push_back(to_json(measurement));
  }
  return json;
}

// Seconds and memory by the length of the video.
std::string draw_growth(const BenchReport& report) {
  report::Series seconds{.name = "seconds", .points = {}};
  report::Series gigabytes{.name = "GB of memory at most", .points = {}};
  for (const Measurement& measurement : report.measurements) {
    if (measurement.num_frames == 0 || !measurement.problem.empty()) continue;
    seconds.points.emplace_back(measurement.num_frames, measurement.seconds);
    gigabytes.points.emplace_back(measurement.num_frames,
                                  static_cast<double>(measurement.peak_bytes) / kGigabyte);
  }
  const std::string title =
      fmt::format("{}, {}", report.measurements.back().name, report.device_name);
  return report::make_svg_file(report::draw_plot({title, "frames", "", {seconds, gigabytes}}));
}

void check_flags(const BenchOptions& options) {
  if (!options.plot_file) return;
  if (options.request.num_frames.size() < 2) {
    throw UsageError("--plot: wants two or more lengths in --num-frames");
  }
  if (options.request.subject != "dit" && options.request.subject != "vae") {
    throw UsageError("--plot: only of 'dit' and 'vae'");
  }
}

}  // namespace

void add_bench_flags(CLI::App& command, BenchOptions& options) {
  bench::BenchRequest& request = options.request;
  command.add_option("subject", request.subject, "what is measured; weights are random")
      ->type_name("op|dit|sparse|vae|t5|video|load")
      ->required();
  command.add_option("names", request.names, "of op and sparse: what has one of these in its name")
      ->type_name("NAME");
  command.add_option("--size", request.size, "Mochi 1's sizes, or such as a laptop can do")
      ->type_name("full|micro")
      ->capture_default_str();
  command
      .add_option("--num-frames", request.num_frames,
                  "lengths of dit, sparse, vae, video (default: 163)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("INT,...");
  command.add_option("--layers", request.num_layers, "of dit, sparse, t5, video (0: all)")
      ->capture_default_str();
  command.add_option("--num-steps", request.num_steps, "of video")->capture_default_str();
  command.add_option("--repetitions", request.num_repetitions, "whose median is told")
      ->capture_default_str();
  command.add_flag("--profile", request.is_profiled,
                   "of dit, sparse, vae, t5: what each operation takes");
  command.add_option("--file", request.file, "of load: a transformer's .safetensors file")
      ->type_name("FILE");
  command.add_option("--json", options.json_file, "write what was measured")->type_name("FILE");
  command.add_option("--plot", options.plot_file, "draw time and memory over the lengths, as .svg")
      ->type_name("FILE");
  command.add_option("--device", request.device, "where it runs")
      ->type_name("auto|cpu|cuda")
      ->capture_default_str();
  command.add_option("--dtype", request.dtype, "of activations")
      ->type_name("auto|fp32|bf16")
      ->capture_default_str();
  command.add_option("--threads", request.num_threads, "0: all cores")->capture_default_str();
}

void run_bench(const BenchOptions& options) {
  check_flags(options);
  std::optional<AtomicFile> json_file;  // better now than after the work
  std::optional<AtomicFile> plot_file;
  if (options.json_file) json_file.emplace(*options.json_file);
  if (options.plot_file) plot_file.emplace(*options.plot_file);
  const BenchReport report = [&] {
    try {
      return bench::run_benchmark(options.request,
                                  [](const BenchReport& so_far, const Measurement& measurement) {
                                    print_measurement(so_far, measurement);
                                    if (interrupt_signal() != 0) throw Cancelled();
                                  });
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& error) {
      throw Error(describe_error(error));
    }
  }();
  if (json_file) {
    json_file->write(to_json(report, options.request).dump(1) + "\n");
    json_file->commit();
  }
  if (plot_file) {
    plot_file->write(draw_growth(report));
    plot_file->commit();
  }
  for (const Measurement& measurement : report.measurements) {
    if (!measurement.problem.empty()) {
      fail("{} {}: {}", measurement.name, measurement.size, measurement.problem);
    }
    if (!measurement.is_right()) {
      fail("{} {}: relative error {:.1e}, at most {:.1e} is right", measurement.name,
           measurement.size, measurement.relative_error.value_or(0), measurement.max_error);
    }
  }
}

}  // namespace mochi::cli
