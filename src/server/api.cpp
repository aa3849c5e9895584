#include "server/api.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <ctime>
#include <random>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "job/field_value.h"
#include "server/content.h"
#include "server/digest.h"
#include "server/entity_tag.h"
#include "server/event_stream.h"
#include "server/http_error.h"
#include "server/json_response.h"
#include "server/multipart.h"
#include "server/page.h"
#include "server/request_target.h"

namespace mochi::server {

namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kEventsType = "text/event-stream";
constexpr std::size_t kMaxIdempotencyKey = 256;  // characters
constexpr std::string_view kUnknownRoute = "other";

std::string draw_id() {
  std::random_device device;
  return fmt::format("video_{:08x}{:08x}{:08x}", device(), device(), device());
}

// "video_" and 24 hexadecimal digits: never a path.
bool is_id(std::string_view text) {
  constexpr std::string_view kPrefix = "video_";
  constexpr std::size_t kNumDigits = 24;
  return text.starts_with(kPrefix) && text.size() == kPrefix.size() + kNumDigits &&
         text.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

// The host of a header Host, without the port and without brackets, in lower case.
std::string host_name(std::string_view host) {
  std::string name(host.substr(0, host.rfind(':')));
  if (host.ends_with(']')) name = host;
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

bool is_address(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return ::inet_pton(AF_INET, name.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), address.data()) == 1;
}

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 1; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    parts.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool matches(std::string_view pattern, const std::vector<std::string>& segments) {
  return std::ranges::equal(
      split(pattern), segments,
      [](const std::string& a, const std::string& b) { return a.starts_with('{') || a == b; });
}

// Depends on the fields that a client has sent, not on the boundary of its form.
std::string digest_of(const HttpRequest& request) {
  const std::string_view content_type = request.header("content-type");
  std::string text = request.target + "\n";
  if (media_type_of(content_type) != "multipart/form-data") return sha256_hex(text + request.body);
  for (const FormField& field : parse_multipart(request.body, content_type)) {
    text +=
        fmt::format("{} {}\n{}{}", field.name.size(), field.value.size(), field.name, field.value);
  }
  return sha256_hex(text);
}

// A client that gives no seed wants another video each time.
VideoRequest with_seed(VideoRequest request) {
  if (!request.request.seed) job::set_from_text(request.request, "seed", "random");
  return request;
}

HttpRequest without_body(const HttpRequest& request) {
  return {.method = request.method,
          .target = request.target,
          .headers = request.headers,
          .body = "",
          .id = request.id};
}

// A method that an address does not have.
class MethodError : public HttpError {
 public:
  MethodError(const std::string& method, std::string allowed)
      : HttpError(405, fmt::format("wanted {}, found {}", allowed, method)),
        allowed_(std::move(allowed)) {}
  const std::string& allowed() const { return allowed_; }

 private:
  std::string allowed_;
};

}  // namespace

struct Api::Call {
  const HttpRequest& request;
  RequestTarget target;
  std::string owner;             // name of the client's key
  const Route* route = nullptr;  // null until it is found

  // The variable segment of a path: "/v1/videos/{id}".
  const std::string& id() const { return target.segments.at(2); }
};

struct Api::Route {
  RouteName name;
  Response (Api::*handler)(const Call&);
  bool needs_key = true;
};

std::span<const Api::Route> Api::routes() {
  static constexpr std::array kRoutes{
      Route{{"POST", "/v1/videos"}, &Api::create_video},
      Route{{"GET", "/v1/videos"}, &Api::list_videos},
      Route{{"POST", "/v1/videos/sync"}, &Api::create_and_wait},
      Route{{"POST", "/v1/videos/estimate"}, &Api::estimate_video},
      Route{{"GET", "/v1/videos/{id}"}, &Api::retrieve_video},
      Route{{"DELETE", "/v1/videos/{id}"}, &Api::delete_video},
      Route{{"GET", "/v1/videos/{id}/content"}, &Api::video_content},
      Route{{"GET", "/v1/videos/{id}/events"}, &Api::video_events},
      Route{{"POST", "/v1/videos/{id}/remix"}, &Api::remix_video},
      Route{{"GET", "/v1/models"}, &Api::list_models},
      Route{{"GET", "/v1/models/{id}"}, &Api::retrieve_model},
      Route{{"GET", "/v1/status"}, &Api::status},
      Route{{"GET", "/metrics"}, &Api::metrics_text},
      Route{{"GET", "/healthz"}, &Api::is_healthy, false},
      Route{{"GET", "/readyz"}, &Api::is_ready, false},
      Route{{"GET", "/"}, &Api::page_file, false},
      Route{{"GET", "/{file}"}, &Api::page_file, false},
  };
  return kRoutes;
}

std::vector<RouteName> Api::list_routes() {
  std::vector<RouteName> names;
  for (const Route& route : routes()) names.push_back(route.name);
  return names;
}

Api::Api(Parts parts) : in_(std::move(parts)), started_at_(std::time(nullptr)) {}

void Api::set_connections(int num_connections, int num_event_streams) {
  num_connections_ = num_connections;
  num_event_streams_ = num_event_streams;
}

// ---- from a request to its handler ----

// Throws HttpError 404, or MethodError.
const Api::Route& Api::find_route(const std::string& method, const Call& call) {
  const std::string wanted = method == "HEAD" ? "GET" : method;
  std::set<std::string> allowed;
  for (const Route& route : routes()) {
    if (!matches(route.name.path, call.target.segments)) continue;
    if (route.name.method == wanted) return route;
    allowed.emplace(route.name.method);
  }
  if (allowed.empty()) throw HttpError(404, "no such address", "", "not_found");
  if (allowed.contains("GET")) allowed.emplace("HEAD");
  throw MethodError(method, fmt::format("{}", fmt::join(allowed, ", ")));
}

// Pages of other sites must not use a server that trusts its own machine: neither directly, nor by
// a name of theirs that leads to it.
void Api::check_origin(const HttpRequest& head) const {
  const std::string_view host = head.header("host");
  const auto num_hosts = std::ranges::count(head.headers, "host", &Header::first);
  if (num_hosts > 1) {
    throw bad_request("Host", fmt::format("wanted one header, found {}", num_hosts));
  }
  if (const std::string_view origin = head.header("origin"); !origin.empty()) {
    const std::size_t scheme = origin.find("://");
    if (scheme == std::string_view::npos || origin.substr(scheme + 3) != host) {
      throw HttpError(403, fmt::format("Origin: wanted '{}', found '{}'", host, origin), "Origin",
                      "wrong_origin");
    }
  }
  if (!in_.keys.is_empty() || in_.options.has_no_auth) return;
  const std::string name = host_name(host);
  const bool is_local = name == "localhost" || name.ends_with(".localhost") || is_address(name);
  if (is_local || name == in_.options.host) return;
  throw HttpError(403, fmt::format("Host: wanted a local name or an address, found '{}'", host),
                  "Host", "wrong_host");
}

// Returns the name of the client's key.
std::string Api::check_key(const HttpRequest& head) const {
  if (in_.keys.is_empty()) return "";
  const std::string_view authorization = head.header("authorization");
  if (authorization.empty()) {
    throw HttpError(401, "wanted an API key in the header 'Authorization: Bearer KEY', found none",
                    "Authorization", "invalid_api_key");
  }
  const std::optional<std::string> owner = in_.keys.find(authorization);
  if (!owner) {
    throw HttpError(401, "this API key is not known here", "Authorization", "invalid_api_key");
  }
  return *owner;
}

void Api::check_head(const HttpRequest& head, Call& call) const {
  check_origin(head);
  call.target = parse_request_target(head.target);
  call.route = &find_route(head.method, call);
  if (call.route->needs_key) call.owner = check_key(head);
}

Response Api::with_route(Response response, const Call& call) {
  if (call.route != nullptr) response.route = call.route->name.path;
  return response;
}

std::optional<Response> Api::refuse(const HttpRequest& head) {
  Call call{.request = head, .target = {}, .owner = ""};
  try {
    check_head(head, call);
    return std::nullopt;
  } catch (...) {
    return with_route(explain(head), call);
  }
}

Response Api::answer(const HttpRequest& request) {
  Call call{.request = request, .target = {}, .owner = ""};
  try {
    check_head(request, call);
    return with_route((this->*call.route->handler)(call), call);
  } catch (...) {
    return with_route(explain(request), call);
  }
}

Response Api::answer_error(int status, const std::string& message) {
  return make_error(HttpError(status, message));
}

// Answers the exception that is being handled. Only what the client has done is told to it.
Response Api::explain(const HttpRequest& request) {
  try {
    throw;
  } catch (const MethodError& error) {
    Response response = make_error(error);
    response.set("allow", error.allowed());
    return response;
  } catch (const HttpError& error) {
    return make_error(error);
  } catch (const DatabaseFull& error) {
    in_.log(fmt::format("{} {}: {}", request.method, request.target, error.what()));
    return make_error(HttpError(500, "the server's disk is full", "", "disk_full"));
  } catch (const std::exception& error) {
    in_.log(
        fmt::format("{} {}: {} ({})", request.method, request.target, error.what(), request.id));
    return make_error(HttpError(
        500, fmt::format("an error of the server, which its log explains under {}", request.id), "",
        "internal_error"));
  }
}

void Api::count(const HttpRequest& request, const Response& response, double seconds) {
  constexpr std::array<std::string_view, 4> kMethods{"GET", "HEAD", "POST", "DELETE"};
  const bool is_known = std::ranges::find(kMethods, request.method) != kMethods.end();
  in_.metrics.add_request(response.route.empty() ? kUnknownRoute : response.route,
                          is_known ? request.method : kUnknownRoute, response.status, seconds);
}

// ---- videos ----

VideoRequest Api::read_body(const Call& call, bool needs_prompt,
                            std::optional<FrameRate> fps) const {
  const BodyContext context{.model = in_.model.name,
                            .fps = fps.value_or(FrameRate{in_.model.info.default_fps(), 1}),
                            .loras = list_loras(in_.options.lora_dir),
                            .max_prompt_length = in_.options.max_prompt_length,
                            .needs_prompt = needs_prompt};
  const std::string_view content_type = call.request.header("content-type");
  const std::string type = media_type_of(content_type);
  if (type == kJsonType) return parse_video_json(call.request.body, context);
  if (type == "multipart/form-data") {
    return parse_video_form(parse_multipart(call.request.body, content_type), context);
  }
  throw HttpError(415,
                  fmt::format("Content-Type: wanted {} or multipart/form-data, found '{}'",
                              kJsonType, content_type),
                  "Content-Type");
}

std::optional<Idempotency> Api::read_idempotency(const Call& call) const {
  const std::string key(call.request.header("idempotency-key"));
  if (key.empty()) return std::nullopt;
  if (key.size() > kMaxIdempotencyKey) {
    throw bad_request("Idempotency-Key", fmt::format("wanted at most {} characters, found {}",
                                                     kMaxIdempotencyKey, key.size()));
  }
  return Idempotency{.key = key, .body_digest = digest_of(call.request)};
}

// Adds a video to the queue, or returns the one that the same request has added before.
Video Api::add_video(const Call& call, const VideoRequest& request,
                     const std::string& remixed_from) {
  const std::optional<Idempotency> idempotency = read_idempotency(call);
  if (idempotency) {
    const std::optional<Store::Repeated> repeated =
        in_.store.find_repeated(call.owner, idempotency->key);
    if (repeated && repeated->body_digest != idempotency->body_digest) {
      throw HttpError(
          422, fmt::format("Idempotency-Key: '{}' was used with another request", idempotency->key),
          "Idempotency-Key", "idempotency_key_reused");
    }
    if (repeated) return repeated->video;
  }
  const PlannedVideo plan = plan_video(request, in_.model, in_.options.max_work);
  Video video;
  video.id = draw_id();
  video.owner = call.owner;
  video.created_at = std::time(nullptr);
  video.request = plan.request.dump();
  video.fields = plan.fields.dump();
  video.remixed_from = remixed_from;
  in_.queue.add(video, idempotency);
  return in_.store.find(video.id).value_or(video);
}

Response Api::create_video(const Call& call) {
  return describe(add_video(call, with_seed(read_body(call, true)), ""));
}

Response Api::remix_video(const Call& call) {
  const Video source = find_video(call);
  const VideoRequest settings = read_video_request(Json::parse(source.request), source.id);
  const VideoRequest changes = read_body(call, true, settings.request.fps);
  return describe(add_video(call, overlay(settings, changes), source.id));
}

Response Api::create_and_wait(const Call& call) {
  const Video video = add_video(call, with_seed(read_body(call, true)), "");
  Response response;
  response.events = std::make_shared<EventStream>(in_.store, in_.queue, video.id, 0);
  response.at_end = [this, id = video.id, head = without_body(call.request)] {
    try {
      const std::optional<Video> made = in_.store.find(id);
      if (!made) throw HttpError(404, "the video was deleted", "", "video_deleted");
      if (made->error) throw HttpError(500, made->error->message, "", made->error->code);
      Response content = send_variant(head, find_variant("video"), *made, in_.queue.folder_of(id));
      content.set("x-video-id", id);
      return content;
    } catch (...) {
      return explain(head);
    }
  };
  // With a key, the client may come back for it, as others may that have sent it.
  const bool may_return = !call.request.header("idempotency-key").empty();
  response.on_abandoned = [this, id = video.id, may_return] {
    if (may_return) return;
    if (const std::optional<Video> unwanted = in_.store.find(id)) in_.queue.remove(*unwanted);
  };
  return response;
}

Response Api::estimate_video(const Call& call) {
  const PlannedVideo plan = plan_video(read_body(call, false), in_.model, in_.options.max_work);
  const std::optional<Estimate> estimate = estimate_seconds(plan.workload, in_.store.timings());
  OrderedJson json{{"object", "video.estimate"},
                   {"seconds", nullptr},
                   {"basis", nullptr},
                   {"num_steps", plan.fields.at("num_steps")},
                   {"width", plan.request.at("width")},
                   {"height", plan.request.at("height")},
                   {"num_frames", plan.request.at("num_frames")},
                   {"size", plan.fields.at("size")},
                   {"work", plan.work}};
  if (estimate) {
    json["seconds"] = estimate->seconds;
    json["basis"] = estimate->is_measured ? "measured" : "scaled";
  }
  return make_json(json);
}

Response Api::list_videos(const Call& call) {
  const Page page = read_page(call.target.query);
  VideoPage found;
  const std::string after = page.after.value_or("");
  if (page.after && !is_own(after, call.owner)) {
    throw bad_request("after", fmt::format("wanted the id of a video, found '{}'", after));
  }
  found = in_.store.list({.owner = call.owner,
                          .after = after,
                          .limit = page.limit,
                          .is_ascending = page.is_ascending});
  OrderedJson data = OrderedJson::array();
  for (const Video& video : found.videos) data.push_back(describe_json(video));
  OrderedJson json{{"object", "list"},
                   {"data", data},
                   {"first_id", nullptr},
                   {"last_id", nullptr},
                   {"has_more", found.has_more}};
  if (!found.videos.empty()) {
    json["first_id"] = found.videos.front().id;
    json["last_id"] = found.videos.back().id;
  }
  return make_json(json);
}

bool Api::is_own(const std::string& id, const std::string& owner) const {
  if (!is_id(id)) return false;
  const std::optional<Video> video = in_.store.find(id);
  return video && video->owner == owner;
}

// Throws HttpError 404, also for videos of other keys.
Video Api::find_video(const Call& call) const {
  const std::string& id = call.id();
  std::optional<Video> video;
  if (is_id(id)) video = in_.store.find(id);
  if (!video || video->owner != call.owner) {
    throw HttpError(404, fmt::format("no video '{}'", id), "id", "video_not_found");
  }
  return *std::move(video);
}

OrderedJson Api::describe_json(const Video& video) const {
  std::optional<std::int64_t> position;
  if (video.status == VideoStatus::kQueued) position = in_.queue.position_of(video.id);
  return describe_video(video, in_.queue.find_live(video.id), position, in_.options.keep);
}

// Clients that poll learn when to ask again: soon if the end is near.
Response Api::describe(const Video& video) const {
  constexpr double kShortestMs = 500;
  constexpr double kLongestMs = 5000;
  constexpr double kMsPerSecondLeft = 100;
  Response response = make_json(describe_json(video));
  const LiveState* const live = in_.queue.find_live(video.id);
  const double left = live == nullptr ? 0 : live->seconds_left.value_or(0);
  response.set("openai-poll-after-ms",
               fmt::format("{:.0f}", std::clamp(left * kMsPerSecondLeft, kShortestMs, kLongestMs)));
  return response;
}

Response Api::retrieve_video(const Call& call) {
  call.target.query.check_names({});
  return describe(find_video(call));
}

Response Api::delete_video(const Call& call) {
  const Video video = find_video(call);
  in_.queue.remove(video);
  return make_json({{"id", video.id}, {"object", "video.deleted"}, {"deleted", true}});
}

Response Api::video_content(const Call& call) {
  static const std::vector<std::string> kParameters{"variant", "download"};
  const Query& query = call.target.query;
  query.check_names(kParameters);
  const Video video = find_video(call);
  const Variant& variant = find_variant(query.find("variant").value_or("video"));
  Response response = send_variant(call.request, variant, video, in_.queue.folder_of(video.id));
  if (query.get_flag("download")) {
    response.set("content-disposition",
                 fmt::format("attachment; filename=\"{}-{}\"", video.id, variant.file));
  }
  return response;
}

Response Api::video_events(const Call& call) {
  static const std::vector<std::string> kParameters{"last_event_id"};
  const Query& query = call.target.query;
  query.check_names(kParameters);
  const Video video = find_video(call);
  std::int64_t after = query.get_int("last_event_id", 0, 0, std::numeric_limits<int>::max());
  if (const std::string_view header = call.request.header("last-event-id"); !header.empty()) {
    const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), after);
    if (error != std::errc() || end != header.data() + header.size() || after < 0) {
      throw bad_request("Last-Event-ID",
                        fmt::format("wanted the id of an event, found '{}'", header));
    }
  }
  Response response;
  response.set("content-type", kEventsType);
  response.set("cache-control", "no-store");
  response.set("x-accel-buffering", "no");
  response.events = std::make_shared<EventStream>(in_.store, in_.queue, video.id, after);
  return response;
}

// ---- the rest ----

Response Api::list_models(const Call& /*call*/) {
  return make_json(
      {{"object", "list"},
       {"data", OrderedJson::array({describe_model(in_.model, in_.options, started_at_)})}});
}

Response Api::retrieve_model(const Call& call) {
  if (call.id() != in_.model.name) {
    throw HttpError(404, fmt::format("wanted model '{}', found '{}'", in_.model.name, call.id()),
                    "model", "model_not_found");
  }
  return make_json(describe_model(in_.model, in_.options, started_at_));
}

Response Api::status(const Call& /*call*/) {
  OrderedJson workers = OrderedJson::array();
  std::int64_t num_running = 0;
  for (const WorkerState& worker : in_.queue.workers()) {
    OrderedJson json{{"gpu", nullptr}, {"state", worker.state}, {"video_id", nullptr}};
    if (worker.gpu) json["gpu"] = *worker.gpu;
    if (!worker.video_id.empty()) json["video_id"] = worker.video_id;
    if (!worker.video_id.empty()) ++num_running;
    workers.push_back(std::move(json));
  }
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - begin_;
  return make_json({{"version", version()},
                    {"model", in_.model.name},
                    {"device", in_.queue.device()},
                    {"accepts", !in_.queue.is_stopping()},
                    {"uptime_seconds", uptime.count()},
                    {"queue",
                     {{"queued", in_.store.count(VideoStatus::kQueued)},
                      {"running", num_running},
                      {"max", in_.options.max_queue}}},
                    {"workers", workers}});
}

Response Api::metrics_text(const Call& /*call*/) {
  const auto count = [this](VideoStatus status) {
    return static_cast<int>(in_.store.count(status));
  };
  Response response;
  response.set("content-type", "text/plain; version=0.0.4; charset=utf-8");
  response.body = in_.metrics.text({.num_queued = count(VideoStatus::kQueued),
                                    .num_running = count(VideoStatus::kInProgress),
                                    .num_completed = count(VideoStatus::kCompleted),
                                    .num_failed = count(VideoStatus::kFailed),
                                    .num_connections = num_connections_,
                                    .num_event_streams = num_event_streams_});
  return response;
}

Response Api::is_healthy(const Call& /*call*/) { return make_json({{"status", "ok"}}); }

Response Api::is_ready(const Call& /*call*/) {
  if (in_.queue.is_stopping()) {
    throw HttpError(503, "the server is shutting down", "", "shutting_down");
  }
  return make_json({{"status", "ready"}});
}

Response Api::page_file(const Call& call) {
  const std::vector<std::string>& segments = call.target.segments;
  const std::optional<PageFile> file =
      find_page_file(segments.empty() ? "index.html" : segments.front());
  if (!file) throw HttpError(404, "no such address", "", "not_found");
  Response response;
  response.set("etag", file->entity_tag);
  response.set("cache-control", "no-cache");
  if (is_none_match_hit(call.request.header("if-none-match"), file->entity_tag)) {
    response.status = 304;
    return response;
  }
  response.set("content-type", std::string(file->media_type));
  response.body = file->content;
  return response;
}

}  // namespace mochi::server
