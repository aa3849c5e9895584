#include "server/multipart.h"

#include <algorithm>
#include <array>
#include <utility>

#include "server/header_text.h"
#include "server/http_error.h"

namespace mochi::server {
namespace {

constexpr std::string_view kLineBreak = "\r\n";
constexpr std::string_view kDashes = "--";
constexpr std::size_t kMaxParts = 64;
constexpr std::size_t kMaxPartHeaders = std::size_t{8} << 10;

template <typename... Args>
[[noreturn]] void refuse_form(fmt::format_string<Args...> problem, Args&&... args) {
  throw bad_request("", "form: " + fmt::format(problem, std::forward<Args>(args)...));
}

std::string read_boundary(std::string_view content_type) {
  constexpr std::size_t kMaxBoundary = 70;
  const std::optional<HeaderValue> header = parse_header_value(content_type);
  const std::string boundary = header ? header->find("boundary").value_or("") : "";
  if (boundary.empty()) refuse_form("wanted a boundary in Content-Type, found '{}'", content_type);
  const bool is_printable =
      std::ranges::all_of(boundary, [](char letter) { return letter >= ' ' && letter <= '~'; });
  if (boundary.size() > kMaxBoundary || !is_printable || boundary.back() == ' ') {
    refuse_form("wanted a boundary of 1 to {} printable characters, found '{}'", kMaxBoundary,
                boundary);
  }
  return boundary;
}

// Divides a body into its parts.
class PartReader {
 public:
  PartReader(std::string_view body, const std::string& boundary)
      : rest_(body), delimiter_(fmt::format("{}{}{}", kLineBreak, kDashes, boundary)) {
    if (rest_.starts_with(std::string_view(delimiter_).substr(kLineBreak.size()))) {
      rest_.remove_prefix(delimiter_.size() - kLineBreak.size());
    } else {
      take_until_delimiter();  // the preamble
    }
  }

  // Returns headers and content of the next part; nothing after the last one.
  std::optional<std::string_view> next() {
    if (rest_.starts_with(kDashes)) return std::nullopt;  // all that follows is the epilogue
    rest_ = rest_.substr(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    if (!rest_.starts_with(kLineBreak)) {
      refuse_form("wanted CR LF or '--' after a boundary, found '{}'", rest_.substr(0, 2));
    }
    rest_.remove_prefix(kLineBreak.size());
    return take_until_delimiter();
  }

 private:
  std::string_view take_until_delimiter() {
    const std::size_t end = rest_.find(delimiter_);
    if (end == std::string_view::npos) {
      refuse_form("wanted a line '{}--' at the end, found none", delimiter_.substr(2));
    }
    const std::string_view taken = rest_.substr(0, end);
    rest_.remove_prefix(end + delimiter_.size());
    return taken;
  }

  std::string_view rest_;
  std::string delimiter_;  // begins with the line break before it
};

void check_header_line(std::string_view line) {
  const auto is_control = [](char letter) {
    constexpr char kDelete = 0x7f;
    return (letter >= 0 && letter < ' ' && letter != '\t') || letter == kDelete;
  };
  const std::string_view name = line.substr(0, line.find(':'));
  if (std::ranges::any_of(line, is_control) || name.size() == line.size() || !is_token(name)) {
    refuse_form("wanted a header 'NAME: VALUE' in a part, found '{}'", line);
  }
}

struct PartHeaders {
  std::optional<std::string_view> disposition, content_type, encoding;
};

void read_header(std::string_view line, PartHeaders& headers) {
  check_header_line(line);
  const std::size_t colon = line.find(':');
  const std::string name = to_lower(line.substr(0, colon));
  const std::array<std::pair<std::string_view, std::optional<std::string_view>*>, 3> known{
      {{"content-disposition", &headers.disposition},
       {"content-type", &headers.content_type},
       {"content-transfer-encoding", &headers.encoding}}};
  for (const auto& [known_name, value] : known) {
    if (name != known_name) continue;
    if (*value) refuse_form("a part has two headers '{}'", known_name);
    *value = trim_blanks(line.substr(colon + 1));
  }
}

PartHeaders read_headers(std::string_view text) {
  PartHeaders headers;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(kLineBreak), text.size());
    read_header(text.substr(0, end), headers);
    text.remove_prefix(std::min(end + kLineBreak.size(), text.size()));
  }
  return headers;
}

void check_encoding(std::string_view encoding) {
  constexpr std::array<std::string_view, 4> kPlain{"", "7bit", "8bit", "binary"};
  if (std::ranges::find(kPlain, to_lower(encoding)) != kPlain.end()) return;
  refuse_form("wanted Content-Transfer-Encoding 7bit, 8bit or binary, found '{}'", encoding);
}

FormField describe_part(const PartHeaders& headers) {
  const std::string_view disposition = headers.disposition.value_or("");
  const HeaderValue parsed = parse_header_value(disposition).value_or(HeaderValue{});
  const std::optional<std::string> name = parsed.find("name");
  if (parsed.value != "form-data" || !name) {
    refuse_form("wanted Content-Disposition: form-data; name=\"NAME\" in a part, found '{}'",
                disposition);
  }
  std::optional<std::string> file_name = parsed.find("filename");
  if (!file_name) file_name = parsed.find("filename*");
  return {.name = *name,
          .value = "",
          .file_name = std::move(file_name),
          .content_type = std::string(headers.content_type.value_or(""))};
}

FormField read_part(std::string_view part) {
  constexpr std::string_view kEndOfHeaders = "\r\n\r\n";
  std::string_view header_text;
  if (part.starts_with(kLineBreak)) {
    part.remove_prefix(kLineBreak.size());
  } else {
    const std::size_t end = part.substr(0, kMaxPartHeaders).find(kEndOfHeaders);
    if (end == std::string_view::npos) {
      refuse_form("wanted headers of at most {} bytes and an empty line in a part, found '{}'",
                  kMaxPartHeaders, part);
    }
    header_text = part.substr(0, end);
    part.remove_prefix(end + kEndOfHeaders.size());
  }
  const PartHeaders headers = read_headers(header_text);
  check_encoding(headers.encoding.value_or(""));
  FormField field = describe_part(headers);
  field.value = part;
  return field;
}

}  // namespace

std::string media_type_of(std::string_view content_type) {
  const std::string_view type = trim_blanks(content_type.substr(0, content_type.find(';')));
  const std::size_t slash = type.find('/');
  const bool is_type = slash != std::string_view::npos && is_token(type.substr(0, slash)) &&
                       is_token(type.substr(slash + 1));
  return is_type ? to_lower(type) : "";
}

std::vector<FormField> parse_multipart(std::string_view body, std::string_view content_type) {
  PartReader reader(body, read_boundary(content_type));
  std::vector<FormField> fields;
  while (const std::optional<std::string_view> part = reader.next()) {
    if (fields.size() == kMaxParts) refuse_form("wanted at most {} parts, found more", kMaxParts);
    fields.push_back(read_part(*part));
  }
  return fields;
}

}  // namespace mochi::server
