// Any text as the JSON of a request that creates a video.
#include <optional>

#include "base/utf8.h"
#include "fuzz_support.h"
#include "server/http_error.h"
#include "server/video_request.h"

namespace mochi {
namespace {

// The error's own JSON is what a client gets.
std::optional<server::VideoRequest> read_body(std::string_view text) {
  static const server::BodyContext context{
      .model = "micro", .fps = {30, 1}, .loras = {"style"}, .max_prompt_length = 100};
  try {
    return server::parse_video_json(text, context);
  } catch (const server::HttpError& error) {
    require(error.status() == 400 && !server::to_json(error).dump().empty());
    return std::nullopt;
  }
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  const std::optional<server::VideoRequest> request = read_body(as_text(bytes));
  if (!request) return 0;
  require(request->request.prompt && !find_invalid_utf8(*request->request.prompt));
  require(!request->request.noise && !request->request.chipmunk_config);
  const std::string stored = server::to_json(*request).dump();
  const std::string again =
      server::to_json(server::read_video_request(Json::parse(stored), "stored")).dump();
  require(again == stored);
  const std::optional<server::VideoRequest> posted = read_body(stored);
  require(posted && server::to_json(*posted).dump() == stored);
  const server::VideoRequest remix = server::overlay(*request, *posted);
  require(remix.request.prompt == request->request.prompt);
  return 0;
}

}  // namespace mochi
