#include "server/entity_tag.h"

#include <algorithm>
#include <optional>

#include "server/header_text.h"

namespace mochi::server {
namespace {

constexpr std::string_view kWeak = "W/";

std::string_view without_weakness(std::string_view tag) {
  if (tag.starts_with(kWeak)) tag.remove_prefix(kWeak.size());
  return tag;
}

// Removes a tag from the beginning of `text`, which is empty or ends with the list.
std::optional<std::string_view> take_tag(std::string_view& text) {
  const std::size_t begin = text.starts_with(kWeak) ? kWeak.size() : 0;
  if (begin >= text.size() || text[begin] != '"') return std::nullopt;
  const std::size_t end = text.find('"', begin + 1);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view tag = text.substr(0, end + 1);
  text.remove_prefix(end + 1);
  return tag;
}

}  // namespace

bool is_none_match_hit(std::string_view if_none_match, std::string_view tag) {
  std::string_view rest = trim_blanks(if_none_match);
  if (rest == "*") return true;
  while (!rest.empty()) {
    rest = rest.substr(std::min(rest.find_first_not_of(", \t"), rest.size()));
    const std::optional<std::string_view> listed = take_tag(rest);
    if (!listed) return false;
    if (without_weakness(*listed) == without_weakness(tag)) return true;
    rest = trim_blanks(rest);
    if (!rest.empty() && rest.front() != ',') return false;
  }
  return false;
}

bool is_range_valid(std::string_view if_range, std::string_view tag) {
  const std::string_view wanted = trim_blanks(if_range);
  return wanted.empty() || (wanted == tag && !wanted.starts_with(kWeak));
}

}  // namespace mochi::server
