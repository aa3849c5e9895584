#include "server/content.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "server/byte_range.h"
#include "server/entity_tag.h"
#include "server/http_error.h"
#include "server/json_response.h"

namespace mochi::server {
namespace {

namespace fs = std::filesystem;

constexpr std::array kVariants{
    Variant{"video", "video.mp4", "video/mp4"},
    Variant{"thumbnail", "thumbnail.jpg", "image/jpeg"},
    Variant{"spritesheet", "spritesheet.jpg", "image/jpeg"},
    Variant{"json", "video.mp4.json", kJsonType},
};

// Answers a request for a file, or a part of it. Its content never changes under this tag.
Response send_file(const HttpRequest& request, const fs::path& path, const std::string& tag) {
  std::error_code error;
  const std::uint64_t size = fs::file_size(path, error);
  if (error) throw HttpError(404, "the file of this video no longer exists", "", "not_found");
  Response response;
  response.set("etag", tag);
  response.set("accept-ranges", "bytes");
  response.set("cache-control", "private, max-age=31536000, immutable");
  if (is_none_match_hit(request.header("if-none-match"), tag)) {
    response.status = 304;
    return response;
  }
  ByteRange range;
  if (is_range_valid(request.header("if-range"), tag)) {
    range = parse_byte_range(request.header("range"), size);
  }
  if (range.kind == ByteRange::Kind::kUnsatisfiable) {
    Response refusal =
        make_error(HttpError(416, fmt::format("Range: wanted a part of {} bytes", size), "Range"));
    refusal.set("content-range", fmt::format("bytes */{}", size));
    return refusal;
  }
  response.file = FilePart{.path = path, .offset = 0, .num_bytes = size};
  if (range.kind == ByteRange::Kind::kPart) {
    response.status = 206;
    response.set("content-range", fmt::format("bytes {}-{}/{}", range.first, range.last, size));
    response.file->offset = range.first;
    response.file->num_bytes = range.num_bytes();
  }
  return response;
}

}  // namespace

const Variant& find_variant(const std::string& name) {
  const auto* const found = std::ranges::find(kVariants, name, &Variant::name);
  if (found != kVariants.end()) return *found;
  throw bad_request("variant",
                    fmt::format("wanted video, thumbnail, spritesheet or json, found '{}'", name));
}

Response send_variant(const HttpRequest& request, const Variant& variant, const Video& video,
                      const fs::path& folder) {
  if (video.status != VideoStatus::kCompleted) {
    throw HttpError(
        404,
        fmt::format("video '{}' has no content: its status is {}", video.id, name_of(video.status)),
        "id", "video_not_ready");
  }
  Response response =
      send_file(request, folder / variant.file, fmt::format("\"{}-{}\"", video.id, variant.name));
  if (response.status < 300) response.set("content-type", variant.media_type);
  return response;
}

}  // namespace mochi::server
