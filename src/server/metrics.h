// Counters and gauges for Prometheus.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace mochi::server {

// Values that are read when the metrics are asked for.
struct Gauges {
  int num_queued = 0, num_running = 0, num_completed = 0, num_failed = 0;
  int num_connections = 0, num_event_streams = 0;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void add_request(std::string_view route, std::string_view method, int status, double seconds);
  void add_step(bool is_evaluated);
  // `result` is "completed", "failed" or "deleted".
  void add_video(std::string_view result);
  void add_phase(std::string_view phase, double seconds);
  void add_worker_crash();

  // In the text format of Prometheus, version 0.0.4.
  std::string text(const Gauges& gauges);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mochi::server
