// The videos and their events on disk. Everything that was committed survives the end of the
// process; added, finished and removed videos also survive a loss of power.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "server/estimate.h"
#include "server/sqlite.h"
#include "server/video.h"

namespace mochi::server {

// A part of what happened to a video, numbered from 1.
struct VideoEvent {
  std::int64_t number = 0;
  std::string type;  // "state", "phase", "step"
  std::string data;  // JSON
};

// The videos of a page of a list.
struct ListOptions {
  std::string owner;
  std::string after;  // id of the last video of the page before; empty: the first page
  int limit = 20;
  bool is_ascending = false;  // oldest first
};

struct VideoPage {
  std::vector<Video> videos;
  bool has_more = false;
};

// All members throw Error naming the file, DatabaseFull when the disk is full.
class Store {
 public:
  // Opens or creates the database and brings one of an older version up to date. Throws Error for
  // one of a newer version.
  explicit Store(const std::filesystem::path& file);

  // Also adds the first event.
  void add(const Video& video, const std::optional<Idempotency>& idempotency,
           const std::string& state_event);
  std::optional<Video> find(const std::string& id);
  // A video that the same client has created with this key, and the digest of its body then.
  struct Repeated {
    Video video;
    std::string body_digest;
  };
  std::optional<Repeated> find_repeated(const std::string& owner, const std::string& key);
  // Throws Error when `after` is no video of the owner.
  VideoPage list(const ListOptions& options);
  void remove(const std::string& id);

  // The oldest queued videos.
  std::vector<Video> queued(int limit);
  std::int64_t count(VideoStatus status);
  std::int64_t count_queued(const std::string& owner);
  // All of them, in their order.
  std::vector<std::string> queued_ids();
  // All videos of the database, for the files next to it.
  std::vector<std::string> ids();

  // Each change adds an event of type "state".
  void start(const std::string& id, const std::string& state_event);
  void complete(const std::string& id, std::int64_t completed_at, const std::string& result,
                const std::string& state_event);
  void mark_failed(const std::string& id, std::int64_t completed_at, const VideoError& error,
                   const std::string& state_event);
  // Back to its place in the queue; `num_crashes` replaces the count.
  void requeue(const std::string& id, int num_crashes, const std::string& state_event);
  // Videos that were in progress when the process ended.
  std::vector<Video> interrupted();

  void add_event(const std::string& id, const std::string& type, const std::string& data);
  std::vector<VideoEvent> events_after(const std::string& id, std::int64_t number, int limit);

  // Finished videos in the order of their end, the oldest first.
  std::vector<Video> finished();
  std::vector<Video> finished_before(std::int64_t completed_at);

  // Times of finished videos, the latest first; old ones are dropped.
  void add_timing(const Timing& timing);
  std::vector<Timing> timings();

 private:
  void upgrade();
  void set_status(const std::string& id, VideoStatus status, const std::string& state_event,
                  Statement& change);
  std::vector<Video> read_all(Statement& statement);
  Statement& statement(const char* sql);

  std::filesystem::path file_;
  Database database_;
  std::map<const char*, Statement> statements_;  // by the address of their literal
};

}  // namespace mochi::server
