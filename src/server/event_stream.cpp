#include "server/event_stream.h"

#include <fmt/format.h>

#include <iterator>
#include <optional>
#include <utility>
#include <vector>

namespace mochi::server {
namespace {

constexpr int kMaxEventsAtOnce = 200;

bool is_last(const VideoEvent& event) {
  if (event.type != "state") return false;
  const std::string status = Json::parse(event.data).value("status", "");
  return status == name_of(VideoStatus::kCompleted) || status == name_of(VideoStatus::kFailed);
}

}  // namespace

EventStream::EventStream(Store& store, VideoQueue& queue, std::string video_id, std::int64_t after)
    : store_(store), queue_(queue), video_id_(std::move(video_id)), last_number_(after) {}

void EventStream::subscribe(WakeFn wake) {
  subscription_ = queue_.subscribe(video_id_, std::move(wake));
}

std::string EventStream::take() {
  std::string text;
  append_stored(text);
  if (!has_ended_) append_live(text);
  return text;
}

void EventStream::append_stored(std::string& text) {
  for (;;) {
    const std::vector<VideoEvent> events =
        store_.events_after(video_id_, last_number_, kMaxEventsAtOnce);
    for (const VideoEvent& event : events) {
      fmt::format_to(std::back_inserter(text), "id: {}\nevent: {}\ndata: {}\n\n", event.number,
                     event.type, event.data);
      last_number_ = event.number;
      has_ended_ = is_last(event);
    }
    if (std::ssize(events) < kMaxEventsAtOnce) return;
  }
}

void EventStream::append_live(std::string& text) {
  const std::optional<Video> video = store_.find(video_id_);
  if (!video) {
    text += "event: deleted\ndata: {}\n\n";
    has_ended_ = true;
  } else if (video->status == VideoStatus::kQueued) {
    const std::int64_t position = queue_.position_of(video_id_);
    if (position == queue_position_) return;
    queue_position_ = position;
    fmt::format_to(std::back_inserter(text), "event: queue\ndata: {{\"queue_position\": {}}}\n\n",
                   position);
  } else if (video->status == VideoStatus::kInProgress) {
    const LiveState* const live = queue_.find_live(video_id_);
    if (live == nullptr || live->num_previews == num_previews_) return;
    num_previews_ = live->num_previews;
    fmt::format_to(std::back_inserter(text), "event: preview\ndata: {}\n\n", live->preview);
  } else {
    has_ended_ = true;  // the client has seen the end before
  }
}

}  // namespace mochi::server
