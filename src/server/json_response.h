// Answers with JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "server/http_error.h"
#include "server/http_message.h"

namespace mochi::server {

inline constexpr const char* kJsonType = "application/json";

Response make_json(const nlohmann::ordered_json& json, int status = 200);
// Says when the request may be repeated, or that a key is wanted.
Response make_error(const HttpError& error);

}  // namespace mochi::server
