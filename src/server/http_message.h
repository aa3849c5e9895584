// Requests and answers, independent of the library that carries them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mochi::server {

class EventStream;

using Header = std::pair<std::string, std::string>;

struct HttpRequest {
  std::string method;           // "GET"
  std::string target;           // "/v1/videos?limit=5", not decoded
  std::vector<Header> headers;  // names in lower case
  std::string body;
  std::string id;  // for the header x-request-id

  // Returns an empty text if the header is absent.
  std::string_view header(std::string_view name) const {
    for (const auto& [known, value] : headers) {
      if (known == name) return value;
    }
    return {};
  }
};

// A part of a file that is the body of an answer.
struct FilePart {
  std::filesystem::path path;
  std::uint64_t offset = 0;
  std::uint64_t num_bytes = 0;
};

struct Response {
  int status = 200;
  std::vector<Header> headers;
  std::string body;
  std::optional<FilePart> file = {};  // in place of the body
  // In place of the body: events until the stream ends.
  std::shared_ptr<EventStream> events = {};
  // If given, the events are not sent: after their end this function gives the answer.
  std::function<Response()> at_end = {};
  // Called when the client is gone before the answer is complete.
  std::function<void()> on_abandoned = {};
  std::string route = {};  // "/v1/videos/{id}", for metrics

  void set(std::string name, std::string value) {
    headers.emplace_back(std::move(name), std::move(value));
  }
};

}  // namespace mochi::server
