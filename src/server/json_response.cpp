#include "server/json_response.h"

namespace mochi::server {

Response make_json(const nlohmann::ordered_json& json, int status) {
  Response response{.status = status, .headers = {{"content-type", kJsonType}}, .body = ""};
  response.body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return response;
}

Response make_error(const HttpError& error) {
  constexpr const char* kRetryAfterSeconds = "5";
  Response response = make_json(to_json(error), error.status());
  const bool may_be_repeated = error.status() == 429 || error.status() == 503;
  if (may_be_repeated) response.set("retry-after", kRetryAfterSeconds);
  if (error.status() == 401) response.set("www-authenticate", "Bearer");
  return response;
}

}  // namespace mochi::server
