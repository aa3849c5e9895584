#include "server/http_error.h"

#include <fmt/format.h>

#include <utility>

#include "base/printable.h"

namespace mochi::server {
namespace {

nlohmann::ordered_json text_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

}  // namespace

HttpError::HttpError(int status, const std::string& message, const std::string& param,
                     std::string code)
    : Error(message), status_(status), param_(printable(param)), code_(std::move(code)) {}

std::string HttpError::type() const {
  constexpr int kUnauthorized = 401;
  constexpr int kForbidden = 403;
  constexpr int kTooManyRequests = 429;
  constexpr int kServerErrors = 500;
  if (status_ >= kServerErrors) return "server_error";
  switch (status_) {
    case kUnauthorized:
      return "authentication_error";
    case kForbidden:
      return "permission_error";
    case kTooManyRequests:
      return "rate_limit_error";
    default:
      return "invalid_request_error";
  }
}

nlohmann::ordered_json to_json(const HttpError& error) {
  return {{"error",
           {{"message", error.what()},
            {"type", error.type()},
            {"param", text_or_null(error.param())},
            {"code", text_or_null(error.code())}}}};
}

HttpError bad_request(const std::string& param, const std::string& problem,
                      const std::string& code) {
  constexpr int kBadRequest = 400;
  const std::string message = param.empty() ? problem : fmt::format("{}: {}", param, problem);
  return {kBadRequest, message, param, code};
}

}  // namespace mochi::server
