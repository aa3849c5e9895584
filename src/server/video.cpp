#include "server/video.h"

#include <algorithm>
#include <array>
#include <utility>

namespace mochi::server {
namespace {

constexpr std::array kStatusNames{
    std::pair{VideoStatus::kQueued, "queued"},
    std::pair{VideoStatus::kInProgress, "in_progress"},
    std::pair{VideoStatus::kCompleted, "completed"},
    std::pair{VideoStatus::kFailed, "failed"},
};

}  // namespace

std::string_view name_of(VideoStatus status) {
  for (const auto& [value, name] : kStatusNames) {
    if (value == status) return name;
  }
  return "";
}

std::optional<VideoStatus> parse_video_status(std::string_view name) {
  for (const auto& [value, known] : kStatusNames) {
    if (name == known) return value;
  }
  return std::nullopt;
}

}  // namespace mochi::server
