// The loop that runs the server, in one thread.
#pragma once

#include <functional>

namespace mochi::server {

class EventLoop {
 public:
  EventLoop() = default;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  virtual ~EventLoop() = default;
  // Calls on_readable whenever the descriptor has something to read, or is at its end.
  virtual void watch(int descriptor, std::function<void()> on_readable) = 0;
  // Before the descriptor is closed; also from within on_readable.
  virtual void unwatch(int descriptor) = 0;
};

}  // namespace mochi::server
