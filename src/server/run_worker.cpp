#include "server/run_worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "job/bundled.h"
#include "job/job.h"
#include "job/latent_map.h"
#include "job/output_path.h"
#include "server/video_answer.h"
#include "server/video_request.h"
#include "server/worker_channel.h"
#include "server/worker_observer.h"

namespace mochi::server {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

// Ends with the server, also when that is killed. A terminal's Ctrl-C is for the server alone,
// which then says what is to be done.
void tie_to_server() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_IGN);
}

// Held until the process ends. A worker of a killed server may live for a moment longer.
FileDescriptor lock_files(const fs::path& data_dir, int gpu) {
  const fs::path path =
      data_dir / fmt::format("worker{}.lock", gpu < 0 ? "" : fmt::format("-{}", gpu));
  FileDescriptor lock(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!lock.is_open() || ::flock(lock.get(), LOCK_EX) != 0) {
    fail("cannot lock '{}': {}", path.string(), describe_errno(errno));
  }
  return lock;
}

// Removes what a killed worker has left half-written. Nobody else writes into the folder, so it
// does not matter whether a process of that number runs again, as it does in a container.
void remove_parts(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const bool is_part = entry.path().filename().string().find(".part-") != std::string::npos;
    if (is_part) fs::remove(entry.path(), ignored);
  }
}

OrderedJson failure(const char* code, const std::string& message, bool must_end) {
  return {{"type", "failed"}, {"code", code}, {"message", message}, {"must_end", must_end}};
}

// Describes the exception that is being handled. After an unknown one the process is not trusted
// with another video: a GPU that has failed works again in a new process only.
OrderedJson describe_failure() {
  try {
    throw;
  } catch (const OutOfMemory& error) {
    return failure("out_of_memory", fmt::format("{}; a smaller video needs less", error.what()),
                   false);
  } catch (const std::bad_alloc&) {
    return failure("out_of_memory", "memory is exhausted; a smaller video needs less", false);
  } catch (const NotFinite& error) {
    return failure("not_finite", error.what(), false);
  } catch (const InvalidRequest& error) {
    return failure("invalid_request", error.what(), false);
  } catch (const Error& error) {
    const std::string message = error.what();
    const bool is_full = message.find(describe_errno(ENOSPC)) != std::string::npos ||
                         message.find(describe_errno(EDQUOT)) != std::string::npos;
    if (is_full) return failure("disk_full", message, false);
    return failure("model_error", message, true);
  } catch (const std::exception& error) {
    return failure("internal_error", error.what(), true);
  }
}

// Observes the work before the first video.
class PreparationObserver : public job::JobObserver {
 public:
  explicit PreparationObserver(WorkerChannel& channel) : channel_(channel) {}
  bool should_stop() override { return channel_.should_stop(); }
  void on_warning(std::string_view text) override {
    channel_.send({{"type", "warning"}, {"text", text}});
  }
  // Tells clients what takes the time.
  void announce(const char* item) {
    channel_.send({{"type", "phase"},
                   {"data",
                    {{"phase", name_of(Phase::kLoading)},
                     {"item", item},
                     {"num_done", 0},
                     {"num_total", 1},
                     {"progress", 0},
                     {"seconds_left", nullptr}}}});
  }

 private:
  WorkerChannel& channel_;
};

class WorkerRun {
 public:
  WorkerRun(const ServerOptions& options, WorkerChannel& channel)
      : options_(options), channel_(channel) {}

  // Answers one message "run".
  void run(const Json& message) {
    try {
      channel_.send(make(message));
    } catch (const Cancelled&) {
      channel_.send({{"type", "stopped"}});
    } catch (...) {
      channel_.send(channel_.should_stop() ? OrderedJson{{"type", "stopped"}} : describe_failure());
    }
  }

 private:
  OrderedJson make(const Json& message) {
    const VideoRequest request = read_video_request(message.at("request"), "request");
    const fs::path folder = message.at("folder").get<std::string>();
    fs::create_directories(folder);
    remove_parts(folder);
    open_engine(request);
    const job::Job job = prepare(request, folder);
    if (job.is_done) return read_done(job);
    if (!preview_map_) fit_previews();
    encode_ahead(request.request, message);
    WorkerObserver observer(channel_, job, rate_, preview_map_);
    const job::Outcome outcome = job::run_job(job, *engine_, observer, {});
    remember_rate(outcome);
    remove_parts(folder);  // the ffmpeg of a killed worker may have lived a moment longer
    return describe_done(outcome.sidecar, observer.num_evaluated(), job.input.start.has_value());
  }

  void open_engine(const VideoRequest& request) {
    const std::vector<NamedLora> loras = request.loras.value_or(std::vector<NamedLora>{});
    if (engine_ && loras == loras_) return;
    engine_.reset();
    engine_options_ = options_.engine;
    for (const NamedLora& lora : loras) {
      engine_options_.loras.push_back({lora_path(options_.lora_dir, lora.name), lora.scale});
    }
    engine_options_.on_message = [this](MessageLevel level, std::string_view text) {
      if (level != MessageLevel::kWarning) return;
      channel_.send({{"type", "warning"}, {"text", text}});
    };
    engine_ = std::make_unique<Engine>(engine_options_);
    loras_ = loras;
    const EngineInfo info = engine_->info();
    channel_.send({{"type", "ready"},
                   {"device", name_of(info.device)},
                   {"device_name", info.device_name},
                   {"device_note", info.device_note}});
  }

  // Once for each model. A video does without previews if that fails.
  void fit_previews() {
    PreparationObserver observer(channel_);
    observer.announce("preview colours");
    try {
      preview_map_ =
          job::load_or_fit_latent_map(options_.data_dir / "previews.json", *engine_, observer);
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& error) {
      observer.on_warning(fmt::format("no previews: {}", error.what()));
    }
  }

  // While the text encoder is loaded, it also encodes the prompts of videos that wait.
  void encode_ahead(const job::Request& own, const Json& message) {
    const EngineInfo info = engine_->info();
    // On a CPU each prompt takes long, and an encoder that stays gains nothing.
    if (info.device == DeviceKind::kCpu && info.keeps_networks) return;
    std::vector<std::string> prompts{own.prompt.value_or(""), own.negative_prompt.value_or("")};
    std::ranges::copy(message.at("prompts").get<std::vector<std::string>>(),
                      std::back_inserter(prompts));
    std::erase(prompts, "");
    prompts.resize(std::min(prompts.size(), kMaxEncodedPrompts));
    PreparationObserver observer(channel_);
    try {
      engine_->encode_prompts(prompts, observer);
    } catch (const Cancelled&) {
      throw;
    } catch (const Error&) {
      return;  // the sampling of the prompt at fault reports it
    }
  }

  job::Job prepare(const VideoRequest& request, const fs::path& folder) {
    job::JobInput input;
    input.options.request = request.request;
    input.options.engine = engine_options_;
    input.options.output = folder / "video.mp4";
    input.options.checkpoint_every = options_.checkpoint_every;
    input.continues = true;
    const StopFn should_stop = [this] { return channel_.should_stop(); };
    const fs::path checkpoint = job::checkpoint_path(*input.options.output);
    try {
      job::Run run(*engine_, should_stop);
      return job::prepare_job(input, engine_->model(), run);
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& error) {
      // A checkpoint of other settings of the server, or a damaged one: the video begins again.
      std::error_code ignored;
      if (!fs::remove(checkpoint, ignored)) throw;
      channel_.send({{"type", "warning"}, {"text", fmt::format("begins again: {}", error.what())}});
      job::Run run(*engine_, should_stop);
      return job::prepare_job(std::move(input), engine_->model(), run);
    }
  }

  // A video that was complete when the server was killed.
  static OrderedJson read_done(const job::Job& job) {
    return describe_done(OrderedJson::parse(read_json(job::sidecar_path(job.output)).dump()), 0,
                         true);
  }

  static OrderedJson describe_done(const OrderedJson& sidecar, std::int64_t num_evaluated,
                                   bool is_resumed) {
    OrderedJson seconds = sidecar.value("seconds", OrderedJson::object());
    const double total = seconds.value("total", 0.0);
    seconds.erase("total");
    return {{"type", "done"},
            {"result",
             {{"total_seconds", total},
              {"seconds", seconds},
              {"num_evaluated", num_evaluated},
              {"is_resumed", is_resumed},
              {"peak_memory_bytes", sidecar.value("peak_memory_bytes", std::uint64_t{0})},
              {"peak_device_bytes", sidecar.value("peak_device_bytes", std::uint64_t{0})}}}};
  }

  void remember_rate(const job::Outcome& outcome) {
    const auto decoding = outcome.seconds.find(Phase::kDecoding);
    if (decoding == outcome.seconds.end()) return;
    rate_.seconds_per_pixel =
        decoding->second / outcome.size.width / outcome.size.height / outcome.size.num_frames;
  }

  const ServerOptions& options_;
  WorkerChannel& channel_;
  EngineOptions engine_options_;
  std::unique_ptr<Engine> engine_;
  std::vector<NamedLora> loras_;  // the engine has these
  DecodingRate rate_;
  std::optional<job::LatentMap> preview_map_;
};

}  // namespace

void run_worker(ServerOptions options, int gpu) {
  tie_to_server();
  job::choose_model(options.engine);
  // Whoever names GPUs does not want the CPU instead.
  if (gpu >= 0) {  // the only one that this process sees
    options.engine.device = DeviceKind::kCuda;
    options.engine.device_index = 0;
  }
  const FileDescriptor lock = lock_files(options.data_dir, gpu);
  WorkerChannel channel;
  WorkerRun worker(options, channel);
  while (const std::optional<Json> message = channel.next_run()) worker.run(*message);
}

}  // namespace mochi::server
