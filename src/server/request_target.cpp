#include "server/request_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/nearest.h"
#include "server/http_error.h"
#include "server/number_text.h"

namespace mochi::server {
namespace {

constexpr const char* kTarget = "target";  // parameter of errors about the whole

// Returns the byte of two digits.
std::optional<char> decode_escape(std::string_view digits) {
  constexpr int kHexadecimal = 16;
  const auto code = parse_number<std::uint8_t>(digits, kHexadecimal);
  if (digits.size() != 2 || !code) return std::nullopt;
  return static_cast<char>(*code);
}

// Replaces %NN by the bytes.
std::string decode_percent(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const std::string_view digits = text.substr(i + 1, 2);
    const std::optional<char> letter = decode_escape(digits);
    if (!letter || *letter == '\0') {
      throw bad_request(kTarget, fmt::format("wanted %01 to %FF, found '%{}'", digits));
    }
    decoded += *letter;
    i += digits.size();
  }
  return decoded;
}

// Forms write a space as a plus.
std::string decode_parameter(std::string_view text) {
  std::string spaced(text);
  std::ranges::replace(spaced, '+', ' ');
  return decode_percent(spaced);
}

std::vector<std::string_view> split_text(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string decode_segment(std::string_view text) {
  std::string segment = decode_percent(text);
  if (segment == "." || segment == ".." || segment.find('/') != std::string::npos) {
    throw bad_request(kTarget, fmt::format("wanted names between slashes, found '{}'", text));
  }
  return segment;
}

void check_characters(std::string_view target) {
  const auto is_allowed = [](char letter) {
    constexpr char kDelete = 0x7f;
    return (letter > ' ' || letter < 0) && letter != kDelete && letter != '#';
  };
  if (target.starts_with('/') && std::ranges::all_of(target, is_allowed)) return;
  throw bad_request(kTarget, fmt::format("wanted a path that begins with /, without spaces, "
                                         "control characters and #, found '{}'",
                                         target));
}

}  // namespace

Query::Query(std::string_view text) {
  for (const std::string_view pair : split_text(text, '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    std::string name = decode_parameter(pair.substr(0, equals));
    if (find(name)) throw bad_request(name, "is given twice");
    values_.emplace_back(std::move(name),
                         decode_parameter(pair.substr(std::min(equals + 1, pair.size()))));
  }
}

std::optional<std::string> Query::find(std::string_view name) const {
  const auto found = std::ranges::find(values_, name, [](const auto& it) { return it.first; });
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

std::int64_t Query::get_int(std::string_view name, std::int64_t fallback, std::int64_t min,
                            std::int64_t max) const {
  const std::optional<std::string> text = find(name);
  if (!text) return fallback;
  const std::optional<std::int64_t> value = parse_number<std::int64_t>(*text);
  if (!value || *value < min || *value > max) {
    throw bad_request(std::string(name),
                      fmt::format("wanted {} to {}, found '{}'", min, max, *text));
  }
  return *value;
}

std::string Query::get_choice(std::string_view name,
                              std::span<const std::string_view> choices) const {
  const std::optional<std::string> text = find(name);
  if (!text) return std::string(choices.front());
  if (std::ranges::find(choices, *text) != choices.end()) return *text;
  throw bad_request(std::string(name),
                    fmt::format("wanted {}, found '{}'", fmt::join(choices, " or "), *text));
}

bool Query::get_flag(std::string_view name) const {
  const std::string text = find(name).value_or("false");
  if (text == "1" || text == "true") return true;
  if (text == "0" || text == "false") return false;
  throw bad_request(std::string(name), fmt::format("wanted 1 or 0, found '{}'", text));
}

void Query::check_names(std::span<const std::string> known) const {
  for (const auto& [name, value] : values_) {
    if (std::ranges::find(known, name) != known.end()) continue;
    throw bad_request(name, "unknown parameter, " + suggest_name(name, known));
  }
}

RequestTarget parse_request_target(std::string_view target) {
  check_characters(target);
  RequestTarget parsed;
  const std::size_t question = target.find('?');
  const std::string_view path =
      target.substr(1, question == std::string_view::npos ? std::string_view::npos : question - 1);
  if (!path.empty()) {
    std::ranges::transform(split_text(path, '/'), std::back_inserter(parsed.segments),
                           decode_segment);
  }
  if (question != std::string_view::npos) parsed.query = Query(target.substr(question + 1));
  return parsed;
}

Page read_page(const Query& query) {
  constexpr int kMaxLimit = 100;
  constexpr std::array<std::string_view, 2> kOrders{"desc", "asc"};
  static const std::array<std::string, 3> kNames{"limit", "after", "order"};
  query.check_names(kNames);
  Page page;
  page.limit = static_cast<int>(query.get_int("limit", page.limit, 1, kMaxLimit));
  page.after = query.find("after");
  page.is_ascending = query.get_choice("order", kOrders) == "asc";
  return page;
}

}  // namespace mochi::server
