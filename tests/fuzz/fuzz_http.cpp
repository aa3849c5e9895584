// Parts of requests of HTTP clients, and the server's file of keys. The first letter of the input
// says which kind of text the rest is; kKinds lists them.
#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "fuzz_support.h"
#include "server/api_keys.h"
#include "server/byte_range.h"
#include "server/entity_tag.h"
#include "server/http_error.h"
#include "server/multipart.h"
#include "server/request_target.h"
#include "server/video_request.h"

namespace mochi {
namespace {

// The text before the first line break, and the text after it.
std::pair<std::string_view, std::string_view> split_first_line(std::string_view text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  return {text.substr(0, end), text.substr(std::min(end + 1, text.size()))};
}

// A Content-Type on a line, and a body.
void use_multipart(std::string_view text) {
  const auto [type, body] = split_first_line(text);
  server::media_type_of(type);
  std::size_t num_bytes = 0;
  for (const server::FormField& field : server::parse_multipart(body, type)) {
    num_bytes += field.name.size() + field.value.size() + field.content_type.size();
  }
  require(num_bytes <= body.size());
}

// Fields "name=value" on lines, as a form has them.
void use_form(std::string_view text) {
  std::vector<server::FormField> fields;
  while (!text.empty()) {
    const auto [line, rest] = split_first_line(text);
    const std::size_t end = std::min(line.find('='), line.size());
    fields.push_back({std::string(line.substr(0, end)),
                      std::string(line.substr(std::min(end + 1, line.size()))), std::nullopt, ""});
    text = rest;
  }
  static const server::BodyContext context{
      .model = "micro", .fps = {30, 1}, .loras = {"style"}, .max_prompt_length = 100};
  const server::VideoRequest request = server::parse_video_form(fields, context);
  require(request.request.prompt && !find_invalid_utf8(*request.request.prompt));
  server::to_json(request).dump();
}

void use_target(std::string_view text) {
  const server::RequestTarget target = server::parse_request_target(text);
  for (const std::string& segment : target.segments) {
    require(segment != ".." && segment.find('/') == std::string::npos);
    require(segment.find('\0') == std::string::npos);
  }
  const server::Page page = server::read_page(target.query);
  require(page.limit >= 1 && page.limit <= 100);
}

void use_range(std::string_view text) {
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{1000}, std::numeric_limits<std::uint64_t>::max()}) {
    const server::ByteRange range = server::parse_byte_range(text, size);
    if (range.kind != server::ByteRange::Kind::kPart) continue;
    require(range.first <= range.last && range.last < size);
    require(range.num_bytes() >= 1 && range.num_bytes() <= size);
  }
}

void use_entity_tag(std::string_view text) {
  constexpr std::string_view kTag = "\"tag\"";
  const bool lists_tag = text.find(kTag) != std::string_view::npos;
  const bool is_any = text.find('*') != std::string_view::npos;
  require(!server::is_none_match_hit(text, kTag) || lists_tag || is_any);
  const bool is_blank = text.find_first_not_of(" \t") == std::string_view::npos;
  require(!server::is_range_valid(text, kTag) || lists_tag || is_blank);
}

void use_keys(std::string_view text) {
  const server::ApiKeys keys = server::ApiKeys::parse(text, "keys.txt");
  require(!keys.find("Bearer "));
  for (const std::string& name : keys.names()) require(!find_invalid_utf8(name));
  const auto [line, rest] = split_first_line(text);
  const std::optional<std::string> owner = keys.find("Bearer " + std::string(line));
  if (owner) require(!owner->empty());
}

struct Kind {
  char letter;
  void (*use)(std::string_view text);
};
constexpr std::array kKinds{
    Kind{'M', use_multipart}, Kind{'F', use_form},       Kind{'T', use_target},
    Kind{'R', use_range},     Kind{'E', use_entity_tag}, Kind{'K', use_keys},
};

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  if (bytes.empty()) return -1;
  const std::string_view text = as_text(bytes);
  const auto* const kind = std::ranges::find(kKinds, text.front(), &Kind::letter);
  if (kind == kKinds.end()) return -1;
  expect_result_or_error([&] { kind->use(text.substr(1)); });
  return 0;
}

}  // namespace mochi
