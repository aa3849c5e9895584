// The body of a request for a video: its fields, from a form or JSON, and their storage as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/frame_rate.h"
#include "io/json.h"
#include "job/request.h"
#include "mochi/mochi.h"
#include "server/http_error.h"
#include "server/lora_text.h"
#include "server/multipart.h"

namespace mochi::server {

struct VideoRequest {
  job::Request request;  // without `noise` and `chipmunk_config`: a client cannot name files
  std::optional<std::vector<NamedLora>> loras;  // no value: none, or those of a remix's source
  // The client's names of fields that have other ones here: num_frames → seconds. Not stored.
  std::map<std::string, std::string, std::less<>> spellings;
};

// Facts about the server that a body is checked with.
struct BodyContext {
  std::string model;               // the only value of `model`
  FrameRate fps;                   // for `seconds`, if the body states no fps
  std::vector<std::string> loras;  // known names
  // Characters of prompt and negative_prompt.
  std::size_t max_prompt_length = std::numeric_limits<std::size_t>::max();
  bool needs_prompt = true;
};

// Throw HttpError 400 naming the field as the client spells it. `seed: random` becomes a number,
// `seconds` the nearest possible num_frames, and `size` width and height.
VideoRequest parse_video_form(std::span<const FormField> fields, const BodyContext& context);
// In JSON, numbers may be texts, and a value of null counts as not given.
VideoRequest parse_video_json(std::string_view text, const BodyContext& context);

// Lays the fields of `changes` over those of `source`, for a remix. LoRAs are replaced as a whole.
VideoRequest overlay(const VideoRequest& source, const VideoRequest& changes);

// For storage, and as a body that parse_video_json() accepts. The round trip is exact.
nlohmann::ordered_json to_json(const VideoRequest& request);
// Throws Error naming `source` and the key.
VideoRequest read_video_request(const Json& json, const std::string& source);

// Translates an error about a field that was found later, when the model's defaults are known.
HttpError to_http_error(const InvalidRequest& error, const VideoRequest& request);

// Returns width · height · num_frames · num_steps; the largest number if that overflows.
std::uint64_t work_of(const GenerateRequest& request);
// Throws HttpError 400 if the work exceeds `max_work`.
void check_work(const GenerateRequest& request, std::uint64_t max_work);

}  // namespace mochi::server
