// A worker's connection to its server: messages, one JSON object in a line.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/file_descriptor.h"
#include "io/json.h"

namespace mochi::server {

class WorkerChannel {
 public:
  // Takes over the standard streams: what libraries print becomes text for errors from now on.
  WorkerChannel();
  ~WorkerChannel();
  WorkerChannel(const WorkerChannel&) = delete;
  WorkerChannel& operator=(const WorkerChannel&) = delete;

  // Waits for the next message "run"; nothing when the server wants no more.
  std::optional<Json> next_run();
  // Returns true if the server wants the current video to stop.
  bool should_stop() const { return should_stop_; }
  // Throws Error if the server is gone.
  void send(const nlohmann::ordered_json& message);

 private:
  void read_messages();
  void take(const std::string& line);

  FileDescriptor output_;
  std::atomic<bool> should_stop_ = false;
  std::mutex mutex_;
  std::condition_variable has_changed_;
  std::deque<Json> runs_;
  bool has_ended_ = false;
  std::thread reader_;
};

}  // namespace mochi::server
