// The files of a finished video, whole or in parts.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "server/http_message.h"
#include "server/video.h"

namespace mochi::server {

struct Variant {
  std::string_view name;  // "thumbnail"
  const char* file;       // in the video's folder
  const char* media_type;
};

// Throws HttpError 400 for a name that is none: video, thumbnail, spritesheet and json are.
const Variant& find_variant(const std::string& name);

// Answers with a variant of the video in `folder`, as the request's headers about ranges and tags
// want it. Throws HttpError 404 if the video is not completed.
Response send_variant(const HttpRequest& request, const Variant& variant, const Video& video,
                      const std::filesystem::path& folder);

}  // namespace mochi::server
