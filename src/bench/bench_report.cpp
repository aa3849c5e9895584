#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "report/svg_plot.h"

namespace mochi::bench {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson describe(const OpTime& op) {
  return {{"name", op.name},
          {"calls", op.num_calls},
          {"seconds", op.seconds},
          {"flop", op.flops},
          {"bytes", op.bytes}};
}

OrderedJson describe(const Measurement& measurement) {
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
  for (const OpTime& op : measurement.profile) json["profile"].push_back(describe(op));
  return json;
}

}  // namespace

std::string to_json(const BenchReport& report, const BenchRequest& request) {
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
    json["measurements"].push_back(describe(measurement));
  }
  return json.dump(1) + "\n";
}

std::string draw_growth(const BenchReport& report) {
  report::Series seconds{.name = "seconds", .points = {}};
  report::Series gigabytes{.name = "GB of peak memory", .points = {}};
  for (const Measurement& measurement : report.measurements) {
    if (measurement.num_frames == 0 || !measurement.problem.empty()) continue;
    seconds.points.emplace_back(measurement.num_frames, measurement.seconds);
    gigabytes.points.emplace_back(measurement.num_frames,
                                  static_cast<double>(measurement.peak_bytes) / 1e9);
  }
  const std::string title =
      fmt::format("{}, {}", report.measurements.back().name, report.device_name);
  return report::make_svg_file(report::draw_plot({title, "frames", "", {seconds, gigabytes}}));
}

}  // namespace mochi::bench
