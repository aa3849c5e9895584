// The HTTP API: routes and their answers. What a request means is here; how it is carried is in
// http_server.h.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_keys.h"
#include "server/http_message.h"
#include "server/metrics.h"
#include "server/server_options.h"
#include "server/store.h"
#include "server/video_answer.h"
#include "server/video_queue.h"
#include "server/video_request.h"

namespace mochi::server {

// "GET", "/v1/videos/{id}".
struct RouteName {
  std::string_view method;
  std::string_view path;
};

class Api {
 public:
  struct Parts {
    const ServerOptions& options;
    const ServedModel& model;
    const ApiKeys& keys;
    Store& store;
    VideoQueue& queue;
    Metrics& metrics;
    LogFn log;
  };
  explicit Api(Parts parts);

  static std::vector<RouteName> list_routes();

  // Returns the refusal of a request whose body has not been read, if its headers decide it.
  std::optional<Response> refuse(const HttpRequest& head);
  // Returns the answer; of errors, too.
  Response answer(const HttpRequest& request);
  // The answer to a request that could not be read.
  static Response answer_error(int status, const std::string& message);
  // Counts an answer that was sent.
  void count(const HttpRequest& request, const Response& response, double seconds);

  // For the metrics.
  void set_connections(int num_connections, int num_event_streams);

 private:
  struct Call;
  struct Route;
  static std::span<const Route> routes();
  static const Route& find_route(const std::string& method, const Call& call);
  void check_origin(const HttpRequest& head) const;
  std::string check_key(const HttpRequest& head) const;
  void check_head(const HttpRequest& head, Call& call) const;
  Response explain(const HttpRequest& request);
  static Response with_route(Response response, const Call& call);

  Response create_video(const Call& call);
  Response create_and_wait(const Call& call);
  Response estimate_video(const Call& call);
  Response list_videos(const Call& call);
  Response retrieve_video(const Call& call);
  Response delete_video(const Call& call);
  Response video_content(const Call& call);
  Response video_events(const Call& call);
  Response remix_video(const Call& call);
  Response list_models(const Call& call);
  Response retrieve_model(const Call& call);
  Response status(const Call& call);
  Response metrics_text(const Call& call);
  Response is_healthy(const Call& call);
  Response is_ready(const Call& call);
  Response page_file(const Call& call);

  // `fps` is that of `seconds`; by default the model's.
  VideoRequest read_body(const Call& call, bool needs_prompt,
                         std::optional<FrameRate> fps = {}) const;
  Video add_video(const Call& call, const VideoRequest& request, const std::string& remixed_from);
  std::optional<Idempotency> read_idempotency(const Call& call) const;
  Video find_video(const Call& call) const;
  bool is_own(const std::string& id, const std::string& owner) const;
  nlohmann::ordered_json describe_json(const Video& video) const;
  Response describe(const Video& video) const;

  Parts in_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::int64_t started_at_;
  int num_connections_ = 0;
  int num_event_streams_ = 0;
};

}  // namespace mochi::server
