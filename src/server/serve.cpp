#include "server/serve.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/subprocess.h"
#include "job/bundled.h"
#include "server/api.h"
#include "server/http_server.h"

namespace mochi::server {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// After a signal: longer than a step takes on a GPU, shorter than a supervisor waits.
constexpr std::chrono::seconds kStopTimeout{9};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void check_options(const ServerOptions& options, const ApiKeys& keys) {
  if (!is_loopback(options.host) && keys.is_empty() && !options.has_no_auth) {
    throw InvalidRequest(
        "host", fmt::format("wanted a loopback address, --api-keys or --no-auth: anyone who "
                            "reaches {} could use the server",
                            options.host));
  }
  if (!keys.is_empty() && options.has_no_auth) {
    throw InvalidRequest("no_auth", "has no effect with --api-keys");
  }
  if (!options.lora_dir.empty() && !fs::is_directory(options.lora_dir)) {
    throw InvalidRequest("lora_dir",
                         fmt::format("wanted a folder, found '{}'", options.lora_dir.string()));
  }
  if (!find_program("ffmpeg"))
    fail("wanted the program ffmpeg, which writes the videos, found none");
}

// Two servers must not share a data folder.
FileDescriptor lock_data(const fs::path& data_dir) {
  std::error_code error;
  // Prompts and videos are nobody else's business.
  if (fs::create_directories(data_dir, error)) {
    fs::permissions(data_dir, fs::perms::owner_all, error);
  }
  fs::create_directories(data_dir / "videos", error);
  if (error) fail("cannot make '{}': {}", (data_dir / "videos").string(), error.message());
  const fs::path path = data_dir / "server.lock";
  FileDescriptor lock(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!lock.is_open()) fail("cannot open '{}': {}", path.string(), describe_errno(errno));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) fail("'{}' is in use by another server", data_dir.string());
    fail("cannot lock '{}': {}", path.string(), describe_errno(errno));
  }
  return lock;
}

// The name of its folder or, without one, of its transformer's file.
std::string name_of_model(const EngineOptions& engine) {
  if (!engine.model_dir.empty()) {
    const fs::path dir = fs::absolute(engine.model_dir).lexically_normal();
    return (dir.has_filename() ? dir : dir.parent_path()).filename().string();
  }
  if (!engine.paths.dit.empty()) return engine.paths.dit.stem().string();
  return std::string(name_of(engine.random_weights));
}

ServedModel open_model(const ServerOptions& options) {
  ServedModel model{
      .name = options.model_name, .info = ModelInfo(options.engine), .engine = options.engine};
  if (model.name.empty()) model.name = name_of_model(options.engine);
  try {
    model.sparsity = load_sparsity_config(job::find_bundled_sparsity()).config;
  } catch (const Error&) {
    model.sparsity.reset();  // the program was installed without it
  }
  return model;
}

class Server {
 public:
  Server(const ServerOptions& options, ApiKeys keys, const ServerFace& face)
      : options_(options),
        face_(face),
        keys_(std::move(keys)),
        lock_(lock_data(options.data_dir)),
        model_(open_model(options)),
        http_(options),
        store_(options.data_dir / "mochi.db"),
        queue_(
            options, store_, metrics_,
            [this](int gpu, WorkerEvents events) {
              return make_process_worker(face_.worker_command(gpu), std::move(events), http_);
            },
            face.log),
        api_({.options = options_,
              .model = model_,
              .keys = keys_,
              .store = store_,
              .queue = queue_,
              .metrics = metrics_,
              .log = face.log}) {}
  // Connections refer to the queue.
  ~Server() { http_.close(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void run() {
    if (face_.stop_descriptor >= 0) {
      http_.watch(face_.stop_descriptor, [this] { begin_to_stop(); });
    }
    face_.on_ready(http_.address(), model_.name);
    queue_.tick();
    http_.run(api_, [this] { queue_.tick(); }, [this] { return may_end(); });
    queue_.kill_workers();
  }

 private:
  void begin_to_stop() {
    http_.unwatch(face_.stop_descriptor);
    stop_at_ = Clock::now() + kStopTimeout;
    face_.log("stopping");
    queue_.stop();
  }

  bool may_end() const {
    return queue_.is_stopping() && (queue_.has_stopped() || Clock::now() > stop_at_);
  }

  const ServerOptions& options_;
  const ServerFace& face_;
  const ApiKeys keys_;
  const FileDescriptor lock_;
  const ServedModel model_;
  HttpServer http_;
  Store store_;
  Metrics metrics_;
  VideoQueue queue_;
  Api api_;
  Clock::time_point stop_at_;
};

}  // namespace

void serve(ServerOptions options, const ServerFace& face) {
  ApiKeys keys;
  if (!options.api_keys.empty()) {
    keys = ApiKeys::read(options.api_keys);
    const std::string warning = warn_of_readers(options.api_keys);
    if (!warning.empty()) face.log("warning: " + warning);
  }
  check_options(options, keys);
  job::choose_model(options.engine);
  if (options.max_queue_per_key == 0) {
    const bool is_shared = keys.names().size() > 1;
    options.max_queue_per_key = is_shared ? (options.max_queue + 1) / 2 : options.max_queue;
  }
  Server(options, std::move(keys), face).run();
}

}  // namespace mochi::server
