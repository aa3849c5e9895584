#include "server/video_request.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "job/field_value.h"
#include "server/lora_text.h"

namespace mochi::server {

VideoRequest overlay(const VideoRequest& source, const VideoRequest& changes) {
  return {.request = job::overlay(source.request, changes.request),
          .loras = changes.loras ? changes.loras : source.loras,
          .spellings = changes.spellings};
}

nlohmann::ordered_json to_json(const VideoRequest& request) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const std::string& field : job::given_fields(request.request)) {
    job::write_field(json, request.request, field);
  }
  if (!request.loras) return json;
  json["lora"] = nlohmann::ordered_json::array();
  for (const NamedLora& lora : *request.loras) json["lora"].push_back(format_lora(lora));
  return json;
}

VideoRequest read_video_request(const Json& json, const std::string& source) {
  JsonReader reader(json, source);
  VideoRequest request;
  request.request = job::read_request(reader);
  if (reader.has("lora")) {
    std::vector<NamedLora>& loras = request.loras.emplace();
    for (const std::string& text : reader.get_strings("lora", {})) {
      loras.push_back(parse_lora(text));
    }
  }
  reader.finish();
  return request;
}

HttpError to_http_error(const InvalidRequest& error, const VideoRequest& request) {
  const auto spelling = request.spellings.find(error.field());
  return bad_request(spelling == request.spellings.end() ? error.field() : spelling->second,
                     error.problem());
}

std::uint64_t work_of(const GenerateRequest& request) {
  std::uint64_t work = 1;
  for (const int factor : {request.width, request.height, request.num_frames, request.num_steps}) {
    if (__builtin_mul_overflow(work, static_cast<std::uint64_t>(factor), &work)) {
      return std::numeric_limits<std::uint64_t>::max();
    }
  }
  return work;
}

void check_work(const GenerateRequest& request, std::uint64_t max_work) {
  const std::uint64_t work = work_of(request);
  if (work <= max_work) return;
  throw bad_request("",
                    fmt::format("wanted width * height * num_frames * num_steps of at most {}, "
                                "found {} * {} * {} * {} = {}",
                                max_work, request.width, request.height, request.num_frames,
                                request.num_steps, work),
                    "too_much_work");
}

}  // namespace mochi::server
