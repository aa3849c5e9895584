#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "base/memory_usage.h"

namespace mochi::server {
namespace {

using prometheus::Family;

const prometheus::Histogram::BucketBoundaries kRequestSeconds{0.001, 0.0025, 0.005, 0.01, 0.025,
                                                              0.05,  0.1,    0.25,  1,    10};
const prometheus::Histogram::BucketBoundaries kPhaseSeconds{0.1, 0.3, 1,   3,    10,
                                                            30,  100, 300, 1000, 3000};

template <typename Builder>
auto& build(prometheus::Registry& registry, Builder builder, const char* name, const char* help) {
  return builder.Name(name).Help(help).Register(registry);
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  Family<prometheus::Counter>& requests = build(
      registry, prometheus::BuildCounter(), "mochi_http_requests_total", "HTTP requests answered");
  Family<prometheus::Histogram>& request_seconds =
      build(registry, prometheus::BuildHistogram(), "mochi_http_request_seconds",
            "time from the end of a request to its answer");
  Family<prometheus::Counter>& steps =
      build(registry, prometheus::BuildCounter(), "mochi_steps_total", "sampling steps done");
  Family<prometheus::Counter>& ended =
      build(registry, prometheus::BuildCounter(), "mochi_videos_ended_total", "videos that ended");
  Family<prometheus::Histogram>& phase_seconds =
      build(registry, prometheus::BuildHistogram(), "mochi_phase_seconds",
            "time of the phases of finished videos");
  prometheus::Counter& crashes =
      build(registry, prometheus::BuildCounter(), "mochi_worker_crashes_total",
            "worker processes that ended while they made a video")
          .Add({});
  Family<prometheus::Gauge>& videos =
      build(registry, prometheus::BuildGauge(), "mochi_videos", "videos in the store, by status");
  prometheus::Gauge& connections =
      build(registry, prometheus::BuildGauge(), "mochi_http_connections", "open connections")
          .Add({});
  prometheus::Gauge& streams =
      build(registry, prometheus::BuildGauge(), "mochi_event_streams", "open streams of events")
          .Add({});
  prometheus::Gauge& peak_memory =
      build(registry, prometheus::BuildGauge(), "mochi_server_peak_memory_bytes",
            "most memory that the server's process has used, workers apart")
          .Add({});
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::add_request(std::string_view route, std::string_view method, int status,
                          double seconds) {
  impl_->requests
      .Add({{"route", std::string(route)},
            {"method", std::string(method)},
            {"status", std::to_string(status)}})
      .Increment();
  impl_->request_seconds.Add({{"route", std::string(route)}}, kRequestSeconds).Observe(seconds);
}

void Metrics::add_step(bool is_evaluated) {
  impl_->steps.Add({{"evaluated", is_evaluated ? "true" : "false"}}).Increment();
}

void Metrics::add_video(std::string_view result) {
  impl_->ended.Add({{"result", std::string(result)}}).Increment();
}

void Metrics::add_phase(std::string_view phase, double seconds) {
  impl_->phase_seconds.Add({{"phase", std::string(phase)}}, kPhaseSeconds).Observe(seconds);
}

void Metrics::add_worker_crash() { impl_->crashes.Increment(); }

std::string Metrics::text(const Gauges& gauges) {
  const auto set = [this](const char* status, int value) {
    impl_->videos.Add({{"status", status}}).Set(value);
  };
  set("queued", gauges.num_queued);
  set("in_progress", gauges.num_running);
  set("completed", gauges.num_completed);
  set("failed", gauges.num_failed);
  impl_->connections.Set(gauges.num_connections);
  impl_->streams.Set(gauges.num_event_streams);
  impl_->peak_memory.Set(static_cast<double>(peak_memory_bytes()));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace mochi::server
