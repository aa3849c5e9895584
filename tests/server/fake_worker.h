// A worker that does nothing but remember, and the queue, store and API around it.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/temp_folder.h"
#include "server/api.h"
#include "server/event_stream.h"
#include "server/video_queue.h"

namespace mochi::server {

class FakeWorker final : public Worker {
 public:
  explicit FakeWorker(WorkerEvents events) : events_(std::move(events)) {}
  bool is_running() const override { return is_running_; }
  void start() override {
    if (fails_to_start) throw Error("cannot start");
    is_running_ = true;
  }
  void send(const Json& message) override { sent.push_back(message); }
  void tick() override {}
  void end() override {
    if (!ends_late) end_as("ended (exit code 0)");
  }
  void kill() override { end_as("was killed by signal 9 (Killed)"); }

  void answer(const Json& message) { events_.on_message(message); }
  void end_as(const std::string& reason) {
    if (!is_running_) return;
    is_running_ = false;
    events_.on_end(reason);
  }

  std::vector<Json> sent;
  bool fails_to_start = false;
  bool ends_late = false;  // the test calls end_as()

 private:
  WorkerEvents events_;
  bool is_running_ = false;
};

// A server without its network.
class TestServer {
 public:
  explicit TestServer(ServerOptions given = {}, const std::string& keys = "")
      : options(prepare(std::move(given), folder.path())),
        api_keys(ApiKeys::parse(keys, "keys")),
        model{.name = "micro", .info = ModelInfo(options.engine), .engine = options.engine},
        store(folder / "mochi.db"),
        queue(
            options, store, metrics,
            [this](int /*gpu*/, WorkerEvents events) {
              auto made = std::make_unique<FakeWorker>(std::move(events));
              worker = made.get();
              return made;
            },
            [this](std::string_view line) { log.emplace_back(line); }),
        api({.options = options,
             .model = model,
             .keys = api_keys,
             .store = store,
             .queue = queue,
             .metrics = metrics,
             .log = [this](std::string_view line) { log.emplace_back(line); }}) {}

  Response call(const std::string& method, const std::string& target, const std::string& body = "",
                std::vector<Header> headers = {}) {
    headers.emplace_back("host", "127.0.0.1:8188");
    if (!body.empty()) headers.emplace_back("content-type", "application/json");
    return api.answer({.method = method,
                       .target = target,
                       .headers = std::move(headers),
                       .body = body,
                       .id = "req_1"});
  }
  Json get(const std::string& target) { return Json::parse(call("GET", target).body); }
  // Returns the id of a new video.
  std::string create(const std::string& body = R"({"prompt": "a red ball"})") {
    const Response response = call("POST", "/v1/videos", body);
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body).value("id", "");
  }
  std::string status_of(const std::string& id) {
    return get("/v1/videos/" + id).value("status", "");
  }
  // The worker has made its video.
  void complete(const std::string& id) {
    std::filesystem::create_directories(queue.folder_of(id));
    folder.write("videos/" + id + "/video.mp4", "0123456789");
    worker->answer({{"type", "done"},
                    {"result",
                     {{"total_seconds", 12.0},
                      {"seconds", {{"sampling", 10.0}, {"decoding", 2.0}}},
                      {"num_evaluated", 64},
                      {"is_resumed", false},
                      {"peak_memory_bytes", 1 << 30}}}});
  }

  TempFolder folder;
  std::vector<std::string> log;
  FakeWorker* worker = nullptr;
  ServerOptions options;
  ApiKeys api_keys;
  ServedModel model;
  Metrics metrics;
  Store store;
  VideoQueue queue;
  Api api;

 private:
  static ServerOptions prepare(ServerOptions options, const std::filesystem::path& data_dir) {
    options.data_dir = data_dir;
    options.engine.model_dir = MOCHI_MICRO_DIR;
    if (options.max_queue_per_key == 0) options.max_queue_per_key = options.max_queue;
    std::filesystem::create_directories(data_dir / "videos");
    return options;
  }
};

}  // namespace mochi::server
