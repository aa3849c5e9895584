#include "server/http_error.h"

#include <fmt/format.h>

#include <utility>

#include "base/printable.h"
#include "base/utf8.h"

namespace mochi::server {
namespace {

// A client's text in a message is cut after so many bytes.
constexpr std::size_t kMaxMessage = 500;

std::string shorten(const std::string& text) {
  if (text.size() <= kMaxMessage) return text;
  const std::string_view kept = std::string_view(text).substr(0, kMaxMessage);
  constexpr std::size_t kMaxCharacter = 4;  // bytes
  const std::size_t end = find_invalid_utf8(kept).value_or(kMaxMessage);
  const bool is_cut = end + kMaxCharacter > kMaxMessage;  // inside a character
  return fmt::format("{}...", kept.substr(0, is_cut ? end : kMaxMessage));
}

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
  return {kBadRequest, shorten(message), shorten(param), code};
}

}  // namespace mochi::server
