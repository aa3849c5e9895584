// Errors that are answers to a client.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace mochi::server {

// The message, what(), is one line that names the parameter, what was wanted and what was found.
class HttpError : public Error {
 public:
  // `param` names the field, query parameter or header; `code` is for programs. Both may be empty.
  HttpError(int status, const std::string& message, const std::string& param = "",
            std::string code = "");

  int status() const { return status_; }
  const std::string& param() const { return param_; }
  const std::string& code() const { return code_; }
  // The kind of error, which the status decides: "invalid_request_error", "server_error", ...
  std::string type() const;

 private:
  int status_;
  std::string param_, code_;
};

// {"error": {"message", "type", "param", "code"}}; an empty param or code is null.
nlohmann::ordered_json to_json(const HttpError& error);

// 400. The message is "PARAM: PROBLEM", or PROBLEM if no parameter is at fault.
HttpError bad_request(const std::string& param, const std::string& problem,
                      const std::string& code = "");

}  // namespace mochi::server
