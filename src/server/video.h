// A video of the server: what was asked for, and what became of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mochi::server {

enum class VideoStatus : std::uint8_t { kQueued, kInProgress, kCompleted, kFailed };

// "queued", "in_progress", "completed" or "failed".
std::string_view name_of(VideoStatus status);
std::optional<VideoStatus> parse_video_status(std::string_view name);

// Why a video failed.
struct VideoError {
  std::string code;     // "out_of_memory"
  std::string message;  // one line
};

struct Video {
  std::string id;     // "video_" and 24 hexadecimal digits
  std::string owner;  // name of the API key; empty without keys
  VideoStatus status = VideoStatus::kQueued;
  std::int64_t created_at = 0;  // seconds since 1970
  std::optional<std::int64_t> completed_at = {};
  std::string request;  // JSON of its VideoRequest; all fields have a value
  std::string fields;   // JSON of the fields of an answer that follow from the request
  std::string remixed_from = {};
  std::optional<VideoError> error = {};
  std::string result = {};  // JSON: times and memory, once it is completed
  int num_crashes = 0;      // workers that ended while they ran it
};

// A request that may be repeated without a second video: its key, and a digest of the body.
struct Idempotency {
  std::string key;
  std::string body_digest;
};

}  // namespace mochi::server
