// Server-sent events about one video
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/store.h"
#include "server/video_queue.h"

namespace mochi::server {

// The events that one client has not seen yet. Stored events have their number as their id; the
// place in the queue and previews have none, and only the latest is sent.
class EventStream {
 public:
  // Begins after the event of this number; 0: with the first one.
  EventStream(Store& store, VideoQueue& queue, std::string video_id, std::int64_t after);

  // Returns the text of all that is new; empty if nothing is.
  std::string take();
  // No event will follow: the video is completed, has failed, or was deleted.
  bool has_ended() const { return has_ended_; }
  // Calls `wake` whenever take() may have something.
  void subscribe(WakeFn wake);

 private:
  void append_stored(std::string& text);
  void append_live(std::string& text);

  Store& store_;
  VideoQueue& queue_;
  std::string video_id_;
  std::int64_t last_number_;
  std::int64_t queue_position_ = -1;
  int num_previews_ = 0;
  bool has_ended_ = false;
  std::shared_ptr<void> subscription_;
};

}  // namespace mochi::server
