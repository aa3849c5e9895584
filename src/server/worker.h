// A process that owns an engine and makes one video at a time. Messages are JSON objects, one in a
// line:
//
//   to the worker    {"type": "run", "id", "folder", "request", "prompts"}, {"type": "stop"}
//   from the worker  {"type": "ready", "device", "device_name", "device_note"},
//                    {"type": "phase" | "step" | "preview" | "warning", ...},
//                    {"type": "done", "result"}, {"type": "failed", "code", "message"},
//                    {"type": "stopped"}
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "server/event_loop.h"

namespace mochi::server {

class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  virtual ~Worker() = default;
  virtual bool is_running() const = 0;
  // Starts the process. Throws Error if that is impossible.
  virtual void start() = 0;
  // Never waits: what the process does not take now is sent by a later call, or by tick().
  virtual void send(const Json& message) = 0;
  virtual void tick() = 0;
  // The process ends when it has no work.
  virtual void end() = 0;
  virtual void kill() = 0;
};

struct WorkerEvents {
  std::function<void(const Json& message)> on_message;
  // The process has ended; `reason` says how.
  std::function<void(const std::string& reason)> on_end;
};

// A worker that is the child process `command`, which gets the messages on its standard input and
// writes its own to its standard output.
std::unique_ptr<Worker> make_process_worker(std::vector<std::string> command, WorkerEvents events,
                                            EventLoop& loop);

}  // namespace mochi::server
