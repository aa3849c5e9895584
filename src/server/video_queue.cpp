#include "server/video_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "server/http_error.h"
#include "server/video_request.h"

namespace mochi::server {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using OrderedJson = nlohmann::ordered_json;

constexpr int kMaxCrashes = 2;           // after so many, a video has failed
constexpr int kNumSharedPrompts = 8;     // prompts of waiting videos that are encoded together
constexpr int kDone = 100;               // percent
constexpr seconds kRetryAfter{5};        // after a worker could not be started
constexpr seconds kLostGpuRetry{60};     // after a worker found no GPU
constexpr seconds kRemovalTimeout{60};   // a worker that does not stop is killed
constexpr seconds kRetentionPeriod{60};  // between two looks for old videos
constexpr const char* kIdPrefix = "video_";

VideoError error_of(const Json& message) {
  return {.code = message.value("code", "internal_error"),
          .message = message.value("message", "unknown error")};
}

std::uint64_t folder_bytes(const fs::path& folder) {
  std::uint64_t num_bytes = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::uint64_t size = entry.file_size(error);
    if (!error) num_bytes += size;
  }
  return num_bytes;
}

// Prompts of a video, in the order in which its sampling needs them; not too many, because a worker
// is told of them while it may be busy.
void append_prompts(const Json& request, std::vector<std::string>& prompts) {
  constexpr std::size_t kMaxBytes = 16 * 1024;
  std::size_t num_bytes = 0;
  for (const std::string& prompt : prompts) num_bytes += prompt.size();
  if (!request.is_object()) return;
  for (const char* key : {"prompt", "negative_prompt"}) {
    std::string text = request.value(key, "");
    num_bytes += text.size();
    const bool is_new = std::ranges::find(prompts, text) == prompts.end();
    if (!text.empty() && is_new && num_bytes <= kMaxBytes) {
      prompts.push_back(std::move(text));
    }
  }
}

}  // namespace

std::string state_event(VideoStatus status, int progress, const std::optional<VideoError>& error) {
  OrderedJson json{{"status", name_of(status)}, {"progress", progress}, {"error", nullptr}};
  if (error) json["error"] = {{"code", error->code}, {"message", error->message}};
  return json.dump();
}

VideoQueue::VideoQueue(const ServerOptions& options, Store& store, Metrics& metrics,
                       const MakeWorker& make_worker, LogFn log)
    : options_(options), store_(store), metrics_(metrics), log_(std::move(log)) {
  recover();
  remove_orphans();
  std::vector<int> gpus = options.gpus;
  if (gpus.empty()) gpus.push_back(-1);
  for (const int gpu : gpus) {
    auto slot = std::make_unique<Slot>();
    Slot& it = *slot;
    slot->gpu = gpu;
    slot->worker = make_worker(
        gpu, {.on_message = [this, &it](const Json& message) { on_message(it, message); },
              .on_end = [this, &it](const std::string& reason) { on_end(it, reason); }});
    slots_.push_back(std::move(slot));
  }
}

void VideoQueue::recover() {
  for (const Video& video : store_.interrupted()) {
    store_.requeue(video.id, video.num_crashes, state_event(VideoStatus::kQueued));
    log_(fmt::format("{}: interrupted, continues", video.id));
  }
}

// A process that was killed while it deleted a video leaves its files.
void VideoQueue::remove_orphans() const {
  std::vector<std::string> known = store_.ids();
  std::ranges::sort(known);
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(options_.data_dir / "videos", error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kIdPrefix) || std::ranges::binary_search(known, name)) continue;
    fs::remove_all(entry.path(), error);
  }
}

fs::path VideoQueue::folder_of(const std::string& id) const {
  return options_.data_dir / "videos" / id;
}

// ---- what clients ask for ----

void VideoQueue::add(const Video& video, const std::optional<Idempotency>& idempotency) {
  if (is_stopping_) {
    throw HttpError(503, "the server is shutting down: try again later", "", "shutting_down");
  }
  if (store_.count(VideoStatus::kQueued) >= options_.max_queue) {
    throw HttpError(
        429, fmt::format("the queue is full: {} videos wait; try again later", options_.max_queue),
        "", "queue_full");
  }
  if (store_.count_queued(video.owner) >= options_.max_queue_per_key) {
    throw HttpError(429,
                    fmt::format("{} videos of this key wait, which is its share of the queue; try "
                                "again later",
                                options_.max_queue_per_key),
                    "", "key_queue_full");
  }
  store_.add(video, idempotency, state_event(VideoStatus::kQueued));
  forget_positions();
  schedule();
}

void VideoQueue::remove(const Video& video) {
  try {
    store_.remove(video.id);
  } catch (const DatabaseFull&) {
    if (video.status == VideoStatus::kInProgress) throw;
    delete_files(video.id);  // which makes room
    store_.remove(video.id);
  }
  forget_positions();
  live_.erase(video.id);
  metrics_.add_video("deleted");
  const auto slot =
      std::ranges::find_if(slots_, [&video](const auto& it) { return it->video_id == video.id; });
  if (slot != slots_.end()) {
    (*slot)->is_removed = true;
    (*slot)->not_before = Clock::now() + kRemovalTimeout;
    (*slot)->worker->send({{"type", "stop"}});
  } else {
    delete_files(video.id);
    log_(fmt::format("{}: deleted", video.id));
  }
  notify(video.id);
  notify_queued();
}

std::int64_t VideoQueue::position_of(const std::string& id) {
  if (!positions_) {
    positions_.emplace();
    for (const std::string& queued : store_.queued_ids()) {
      positions_->emplace(queued, std::ssize(*positions_));
    }
  }
  const auto found = positions_->find(id);
  return found == positions_->end() ? 0 : found->second;
}

const LiveState* VideoQueue::find_live(const std::string& id) const {
  const auto found = live_.find(id);
  return found == live_.end() ? nullptr : &found->second;
}

std::vector<WorkerState> VideoQueue::workers() const {
  std::vector<WorkerState> states;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    WorkerState state{.gpu = std::nullopt, .state = "unloaded", .video_id = slot->video_id};
    if (slot->gpu >= 0) state.gpu = slot->gpu;
    if (slot->worker->is_running()) state.state = "idle";
    if (!slot->video_id.empty()) state.state = "running";
    states.push_back(std::move(state));
  }
  return states;
}

std::shared_ptr<void> VideoQueue::subscribe(const std::string& id, WakeFn wake) {
  auto listener = std::make_shared<WakeFn>(std::move(wake));
  listeners_.emplace(id, listener);
  return {listener.get(), [this, id, listener](void* /*function*/) {
            const auto [begin, end] = listeners_.equal_range(id);
            const auto it = std::find_if(
                begin, end, [&listener](const auto& entry) { return entry.second == listener; });
            if (it != end) listeners_.erase(it);
          }};
}

void VideoQueue::notify(const std::string& id) {
  const auto [begin, end] = listeners_.equal_range(id);
  for (auto it = begin; it != end; ++it) (*it->second)();
}

// Their positions have changed.
void VideoQueue::notify_queued() {
  for (const auto& [id, wake] : listeners_) {
    if (!live_.contains(id)) (*wake)();
  }
}

// ---- the workers ----

void VideoQueue::schedule() {
  if (is_stopping_) return;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    // A process that ends takes no video: on_end() looks again.
    const bool is_free = slot->video_id.empty() && !slot->must_end;
    if (is_free && Clock::now() >= slot->not_before) run_next(*slot);
  }
}

void VideoQueue::run_next(Slot& slot) {
  try {
    const std::vector<Video> next = store_.queued(1);
    if (!next.empty()) start_video(slot, next.front());
  } catch (const Error& error) {
    slot.not_before = Clock::now() + kRetryAfter;
    log_(fmt::format("cannot begin a video, trying again: {}", error.what()));
  }
}

void VideoQueue::start_video(Slot& slot, const Video& video) {
  if (!Json::accept(video.request) || !Json::accept(video.fields)) {
    const VideoError error{.code = "internal_error", .message = "its record is damaged"};
    store_.mark_failed(video.id, std::time(nullptr), error,
                       state_event(VideoStatus::kFailed, 0, error));
    forget_positions();
    log_(fmt::format("{}: failed: {}", video.id, error.message));
    return;
  }
  slot.worker->start();
  store_.start(video.id, state_event(VideoStatus::kInProgress));
  forget_positions();
  slot.video_id = video.id;
  slot.is_removed = false;
  live_[video.id] = LiveState{.phase = "loading"};
  log_(fmt::format("{}: begins", video.id));
  slot.worker->send(run_message(video));
  notify(video.id);
  notify_queued();
}

Json VideoQueue::run_message(const Video& video) {
  std::vector<std::string> prompts;
  for (const Video& next : store_.queued(kNumSharedPrompts)) {
    append_prompts(Json::parse(next.request, nullptr, false), prompts);
  }
  return {{"type", "run"},
          {"id", video.id},
          {"folder", folder_of(video.id).string()},
          {"request", Json::parse(video.request)},
          {"prompts", prompts}};
}

void VideoQueue::on_message(Slot& slot, const Json& message) {
  const std::string type = message.value("type", "");
  try {
    if (type == "ready") return on_ready(slot, message);
    if (slot.video_id.empty()) return;
    if (slot.is_removed && type == "preview") return;
    if (type == "phase" || type == "step") return on_progress(slot, type, message);
    if (type == "warning") {
      log_(fmt::format("{}: warning: {}", slot.video_id, message.value("text", "")));
    } else if (type == "preview") {
      LiveState& live = live_[slot.video_id];
      live.preview = message.value("data", Json::object()).dump();
      ++live.num_previews;
      notify(slot.video_id);
    } else if (type == "done" || type == "failed" || type == "stopped") {
      finish(slot, message);
    }
  } catch (const Error& error) {
    log_(fmt::format("{}: {}", slot.video_id, error.what()));
  } catch (const nlohmann::json::exception& error) {
    log_(fmt::format("a message of a worker cannot be read: {}", error.what()));
  }
}

// A GPU that is lost must not turn into a server that computes on the CPU.
void VideoQueue::on_ready(Slot& slot, const Json& message) {
  const std::string device = message.value("device", "");
  if (device_.empty()) device_ = device;
  if (device == device_) return;
  log_(fmt::format("the worker found no {}, on which the first one ran: {}", device_,
                   message.value("device_note", "")));
  const std::string id = std::exchange(slot.video_id, "");
  if (const std::optional<Video> video = store_.find(id)) {
    change([this, id, num_crashes = video->num_crashes] {
      store_.requeue(id, num_crashes, state_event(VideoStatus::kQueued));
      notify(id);
    });
  }
  live_.erase(id);
  slot.not_before = Clock::now() + kLostGpuRetry;
  slot.worker->kill();
}

void VideoQueue::on_progress(Slot& slot, const std::string& type, const Json& message) {
  if (slot.is_removed) return;
  const Json& data = message.at("data");
  LiveState& live = live_[slot.video_id];
  live.progress = data.value("progress", 0);
  live.seconds_left.reset();
  if (const Json& left = data.at("seconds_left"); left.is_number()) live.seconds_left = left;
  if (type == "step") {
    live.phase = "sampling";
    live.step = data.value("step", 0);
    metrics_.add_step(data.value("evaluated", true));
  } else {
    live.phase = data.value("phase", "");
  }
  try {
    store_.add_event(slot.video_id, type, data.dump());
  } catch (const DatabaseFull&) {
    return;  // the video's state is live; its history has a gap
  }
  notify(slot.video_id);
}

void VideoQueue::finish(Slot& slot, const Json& message) {
  const std::string id = slot.video_id;
  const std::string type = message.value("type", "");
  const std::int64_t now = std::time(nullptr);
  slot.must_end = message.value("must_end", false);
  if (slot.is_removed) {
    delete_files(id);
    log_(fmt::format("{}: deleted", id));
  } else if (type == "done") {
    const Json& result = message.at("result");
    change([this, id, now, result] {
      store_.complete(id, now, result.dump(), state_event(VideoStatus::kCompleted, kDone));
      notify(id);
    });
    change([this, id, result] {
      if (const std::optional<Video> video = store_.find(id)) record_timing(*video, result);
    });
    metrics_.add_video("completed");
    log_(fmt::format("{}: completed in {:.1f} s", id, result.value("total_seconds", 0.0)));
  } else if (type == "stopped") {
    const int num_crashes = store_.find(id).value_or(Video{}).num_crashes;
    change([this, id, num_crashes] {
      store_.requeue(id, num_crashes, state_event(VideoStatus::kQueued));
      notify(id);
    });
    log_(fmt::format("{}: stopped, continues later", id));
  } else {
    const VideoError error = error_of(message);
    change([this, id, now, error] {
      store_.mark_failed(id, now, error, state_event(VideoStatus::kFailed, 0, error));
      notify(id);
    });
    metrics_.add_video("failed");
    log_(fmt::format("{}: failed: {}", id, error.message));
  }
  release(slot);
}

void VideoQueue::release(Slot& slot) {
  live_.erase(slot.video_id);
  slot.video_id.clear();
  slot.idle_since = Clock::now();
  slot.not_before = {};
  if (slot.must_end) slot.worker->end();
  schedule();
}

void VideoQueue::on_end(Slot& slot, const std::string& reason) {
  const bool was_wanted = slot.must_end;
  slot.must_end = false;
  const std::string id = slot.video_id;
  if (id.empty()) {
    if (!was_wanted && !is_stopping_) log_(fmt::format("a worker {}", reason));
    return schedule();
  }
  if (is_stopping_ || slot.is_removed) {
    finish(slot, {{"type", "stopped"}});
    return;
  }
  metrics_.add_worker_crash();
  log_(fmt::format("{}: its worker {}", id, reason));
  const int num_crashes = store_.find(id).value_or(Video{}).num_crashes + 1;
  if (num_crashes >= kMaxCrashes) {
    finish(slot,
           {{"type", "failed"},
            {"code", "worker_crashed"},
            {"message", fmt::format("the worker's process {}, {} times", reason, num_crashes)}});
    return;
  }
  change([this, id, num_crashes] {
    store_.requeue(id, num_crashes, state_event(VideoStatus::kQueued));
    notify(id);
  });
  live_.erase(id);
  slot.video_id.clear();
  slot.not_before = Clock::now() + kRetryAfter;
}

void VideoQueue::record_timing(const Video& video, const Json& result) {
  const Json phases = result.value("seconds", Json::object());
  for (const auto& [phase, value] : phases.items()) {
    metrics_.add_phase(phase, value.get<double>());
  }
  if (result.value("is_resumed", true)) return;  // it measured a part
  const Json fields = Json::parse(video.fields);
  const double sampling = phases.value("sampling", 0.0);
  store_.add_timing({.workload = {.num_latents = fields.value("num_latents", std::int64_t{0}),
                                  .num_steps = fields.value("num_steps", 0),
                                  .num_branches = fields.value("num_branches", 0),
                                  .method = fields.value("method", "")},
                     .num_evaluated = result.value("num_evaluated", 0),
                     .sampling_seconds = sampling,
                     .other_seconds = result.value("total_seconds", 0.0) - sampling});
}

// ---- changes that must not be lost ----

void VideoQueue::change(std::function<void()> change) {
  changes_.push_back(std::move(change));
  apply_changes();
}

void VideoQueue::apply_changes() {
  while (!changes_.empty()) {
    try {
      changes_.front()();
    } catch (const Error& error) {
      if (change_problem_ != error.what()) {
        log_(fmt::format("cannot be stored, trying again: {}", error.what()));
      }
      change_problem_ = error.what();
      return;
    }
    forget_positions();
    changes_.erase(changes_.begin());
  }
  change_problem_.clear();
}

// ---- once a second ----

// Returns true if the process was told to drop its video, or to end, and has not done so in time.
bool VideoQueue::is_stuck(const Slot& slot) {
  const Clock::time_point now = Clock::now();
  if (!slot.video_id.empty()) return slot.is_removed && now > slot.not_before;
  return slot.must_end && now > slot.idle_since + kRemovalTimeout;
}

void VideoQueue::tick() {
  apply_changes();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    slot->worker->tick();
    if (is_stuck(*slot)) slot->worker->kill();
  }
  schedule();
  unload_idle();
  delete_old();
}

void VideoQueue::unload_idle() {
  if (options_.idle_unload_minutes <= 0) return;
  const Clock::time_point limit = Clock::now() - std::chrono::minutes(options_.idle_unload_minutes);
  for (const std::unique_ptr<Slot>& slot : slots_) {
    const bool is_idle = slot->video_id.empty() && slot->worker->is_running() && !slot->must_end;
    if (!is_idle || slot->idle_since > limit) continue;
    slot->must_end = true;
    slot->idle_since = Clock::now();
    slot->worker->end();
    log_("the model is unloaded");
  }
}

void VideoQueue::delete_files(const std::string& id) const {
  std::error_code error;
  fs::remove_all(folder_of(id), error);
  if (error) log_(fmt::format("'{}': {}", folder_of(id).string(), error.message()));
}

void VideoQueue::delete_old() {
  const Clock::time_point now = Clock::now();
  if (now < next_retention_) return;
  next_retention_ = now + kRetentionPeriod;
  try {
    std::vector<Video> old;
    if (options_.keep.max_seconds > 0) {
      old = store_.finished_before(std::time(nullptr) - options_.keep.max_seconds);
    }
    if (options_.keep.max_bytes > 0) std::ranges::move(beyond_size(), std::back_inserter(old));
    for (const Video& video : old) {
      if (!store_.find(video.id)) continue;
      log_(fmt::format("{}: is not kept any longer", video.id));
      remove(video);
    }
  } catch (const Error& error) {
    log_(fmt::format("old videos are not deleted: {}", error.what()));
  }
}

// The oldest finished videos, without which the others have room.
std::vector<Video> VideoQueue::beyond_size() {
  std::vector<Video> videos = store_.finished();
  std::uint64_t num_bytes = 0;
  auto kept = videos.rbegin();
  while (kept != videos.rend()) {
    num_bytes += folder_bytes(folder_of(kept->id));
    if (num_bytes > options_.keep.max_bytes) break;
    ++kept;
  }
  videos.erase(kept.base(), videos.end());
  return videos;
}

// ---- the end ----

void VideoQueue::stop() {
  is_stopping_ = true;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (slot->video_id.empty()) {
      slot->must_end = true;
      slot->worker->end();
    } else {
      slot->worker->send({{"type", "stop"}});
    }
  }
}

bool VideoQueue::has_stopped() const {
  return std::ranges::all_of(slots_, [](const auto& slot) { return slot->video_id.empty(); });
}

void VideoQueue::kill_workers() {
  for (const std::unique_ptr<Slot>& slot : slots_) slot->worker->kill();
}

}  // namespace mochi::server
