// The queue of videos and the workers that make them. All members are called in one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/metrics.h"
#include "server/server_options.h"
#include "server/store.h"
#include "server/worker.h"

namespace mochi::server {

// The progress of a running video, which is not stored.
struct LiveState {
  std::string phase;  // "loading", "text", "sampling" or "decoding"
  int step = 0;
  int progress = 0;  // percent of the whole video
  std::optional<double> seconds_left = {};
  int num_previews = 0;      // so far
  std::string preview = {};  // JSON of the latest one
};

struct WorkerState {
  std::optional<int> gpu;
  std::string state;     // "unloaded", "idle" or "running"
  std::string video_id;  // if it runs one
};

// Called when a video has changed.
using WakeFn = std::function<void()>;

class VideoQueue {
 public:
  using Clock = std::chrono::steady_clock;
  // Starts the worker of a GPU; -1: of the one that the engine chooses.
  using MakeWorker = std::function<std::unique_ptr<Worker>(int gpu, WorkerEvents events)>;

  // Puts the videos that were interrupted back into the queue, and removes folders of videos that
  // no longer exist.
  VideoQueue(const ServerOptions& options, Store& store, Metrics& metrics,
             const MakeWorker& make_worker, LogFn log);

  // Throws HttpError if the queue is full, or ends.
  void add(const Video& video, const std::optional<Idempotency>& idempotency);
  // A running video is stopped first.
  void remove(const Video& video);

  // Queued videos before this one.
  std::int64_t position_of(const std::string& id);
  // Null if the video does not run.
  const LiveState* find_live(const std::string& id) const;
  bool is_stopping() const { return is_stopping_; }
  // "cpu" or "cuda", on which the workers run; empty before the first one has started.
  const std::string& device() const { return device_; }
  std::vector<WorkerState> workers() const;
  std::filesystem::path folder_of(const std::string& id) const;

  // Calls `wake` after each event of the video, until the returned handle is dropped.
  std::shared_ptr<void> subscribe(const std::string& id, WakeFn wake);

  // Once a second: starts videos that could not be started, unloads idle models, deletes what is
  // not to be kept.
  void tick();
  // Starts no more videos and stops those that run, which continue at the next start.
  void stop();
  // Returns true if no worker runs a video.
  bool has_stopped() const;
  // The processes end, whatever they do.
  void kill_workers();

 private:
  struct Slot {
    int gpu = -1;
    std::unique_ptr<Worker> worker = {};
    std::string video_id = {};  // empty: none
    bool is_removed = false;    // the video was deleted while it ran
    bool must_end = false;      // the process, after this video
    Clock::time_point idle_since = {};
    Clock::time_point not_before = {};  // a failed start is repeated then
  };

  void recover();
  void remove_orphans() const;
  void schedule();
  void run_next(Slot& slot);
  Json run_message(const Video& video);
  void start_video(Slot& slot, const Video& video);
  void on_message(Slot& slot, const Json& message);
  void on_progress(Slot& slot, const std::string& type, const Json& message);
  void on_ready(Slot& slot, const Json& message);
  void on_end(Slot& slot, const std::string& reason);
  void finish(Slot& slot, const Json& message);
  void release(Slot& slot);
  void record_timing(const Video& video, const Json& result);
  void notify(const std::string& id);
  void notify_queued();
  void forget_positions() { positions_.reset(); }
  // Changes of a finished video that the disk does not take now are repeated at the next tick.
  void change(std::function<void()> change);
  void apply_changes();
  void delete_files(const std::string& id) const;
  void delete_old();
  std::vector<Video> beyond_size();
  static bool is_stuck(const Slot& slot);
  void unload_idle();

  const ServerOptions& options_;
  Store& store_;
  Metrics& metrics_;
  LogFn log_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<std::string, LiveState> live_;
  // Places in the queue, until it changes.
  std::optional<std::unordered_map<std::string, std::int64_t>> positions_;
  std::multimap<std::string, std::shared_ptr<WakeFn>> listeners_;
  std::vector<std::function<void()>> changes_;
  std::string change_problem_;  // why they wait; empty: they do not
  Clock::time_point next_retention_ = {};
  std::string device_;  // on which the first worker ran
  bool is_stopping_ = false;
};

// "{...}", the data of an event of type "state".
std::string state_event(VideoStatus status, int progress = 0,
                        const std::optional<VideoError>& error = {});

}  // namespace mochi::server
