// The target of a request: "/v1/videos?limit=5".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mochi::server {

// The parameters after the question mark, decoded. The functions that read one throw HttpError 400
// with its name.
class Query {
 public:
  Query() = default;
  // Throws HttpError 400 for a bad escape, a NUL and a name that occurs twice.
  explicit Query(std::string_view text);

  // Returns the value; empty text for a parameter without one, nothing if it is absent.
  std::optional<std::string> find(std::string_view name) const;
  // Returns an integer from `min` to `max`.
  std::int64_t get_int(std::string_view name, std::int64_t fallback, std::int64_t min,
                       std::int64_t max) const;
  // Returns one of `choices`, of which the first is the default.
  std::string get_choice(std::string_view name, std::span<const std::string_view> choices) const;
  // Returns true for "1" and "true", false for "0", "false" and an absent parameter.
  bool get_flag(std::string_view name) const;
  // Throws HttpError 400 for the first parameter that is not listed.
  void check_names(std::span<const std::string> known) const;

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

struct RequestTarget {
  std::vector<std::string> segments;  // "/v1/videos" → v1, videos; "/" → none; "/v1/" → v1, ""
  Query query;
};

// Throws HttpError 400 if the target is not a path with valid escapes. Segments "." and "..", NUL
// and an escaped slash are refused: no segment leads out of a folder.
RequestTarget parse_request_target(std::string_view target);

// The part of a list that a client wants.
struct Page {
  int limit = 20;                    // 1 to 100
  std::optional<std::string> after;  // the id of the last object of the page before
  bool is_ascending = false;         // the oldest first
};

// Reads `limit`, `after` and `order`, and refuses other parameters.
Page read_page(const Query& query);

}  // namespace mochi::server
