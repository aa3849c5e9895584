#include "job/field_value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <random>
#include <utility>

#include "job/errors.h"
#include "job/utf8.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

// Only these fields may hold the text "random".
constexpr std::string_view kSeed = "seed";
constexpr const char* kRandom = "random";

[[noreturn]] void refuse(const Field& field, const std::string& wanted, const std::string& found) {
  throw InvalidRequest(std::string(field.name), fmt::format("wanted {}, found {}", wanted, found));
}

std::uint64_t draw_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

template <typename T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

void check_range(const Field& field, double value, const std::string& found) {
  if (value >= field.range.min && value <= field.range.max) return;
  refuse(field, fmt::format("{} to {}", field.range.min, field.range.max), found);
}

template <typename T>
void check_range(const Field& /*field*/, const T& /*value*/) {}
void check_range(const Field& field, int value) {
  check_range(field, static_cast<double>(value), fmt::format("{}", value));
}
void check_range(const Field& field, double value) {
  if (!std::isfinite(value)) refuse(field, "a finite number", fmt::format("{}", value));
  check_range(field, value, fmt::format("{}", value));
}
void check_range(const Field& field, const FrameRate& fps) {
  check_range(field, static_cast<double>(fps.numerator) / fps.denominator, to_string(fps));
}

// ---- text ----

void parse(const Field& /*field*/, const std::string& text, std::string& value) { value = text; }

void parse(const Field& field, const std::string& text, fs::path& value) {
  if (text.empty()) refuse(field, "a file", "''");
  value = text;
}

void parse(const Field& field, const std::string& text, int& value) {
  if (!parse_number(text, value)) refuse(field, "an integer", fmt::format("'{}'", text));
}

void parse(const Field& field, const std::string& text, std::uint64_t& value) {
  if (field.name == kSeed && text == kRandom) {
    value = draw_seed();
  } else if (!parse_number(text, value)) {
    refuse(field, fmt::format("0 to {} or '{}'", std::numeric_limits<std::uint64_t>::max(), kRandom),
           fmt::format("'{}'", text));
  }
}

void parse(const Field& field, const std::string& text, double& value) {
  if (!parse_number(text, value)) refuse(field, "a number", fmt::format("'{}'", text));
}

void parse(const Field& field, const std::string& text, std::vector<double>& values) {
  values.clear();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    double value = 0;
    if (!parse_number(std::string_view(text).substr(begin, end - begin), value)) {
      refuse(field, "numbers with commas between them", fmt::format("'{}'", text));
    }
    check_range(field, value);
    values.push_back(value);
    begin = end + 1;
  }
}

void parse(const Field& /*field*/, const std::string& text, FrameRate& value) {
  value = parse_frame_rate(text);
}

void parse(const Field& field, const std::string& text, bool& value) {
  if (text != "true" && text != "false") refuse(field, "true or false", fmt::format("'{}'", text));
  value = text == "true";
}

void parse(const Field& field, const std::string& text, SparsityConfig& value) {
  value = parse_sparsity_config(text, std::string(field.name));
}

// ---- JSON ----

template <typename T>
T convert(JsonReader& reader, const std::string& key);

template <>
std::string convert(JsonReader& reader, const std::string& key) {
  return reader.require_string(key);
}
template <>
int convert(JsonReader& reader, const std::string& key) {
  const std::int64_t value = reader.require_int(key);
  constexpr std::int64_t kMin = std::numeric_limits<int>::min();
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (!std::in_range<int>(value)) {
    fail("{}: wanted {} to {}, found {}", reader.locate(key), kMin, kMax, value);
  }
  return static_cast<int>(value);
}
template <>
std::uint64_t convert(JsonReader& reader, const std::string& key) {
  const Json& value = *reader.get_json(key);
  if (key == kSeed && value.is_string() && value.get<std::string>() == kRandom) return draw_seed();
  return reader.get_uint(key, 0);
}
template <>
double convert(JsonReader& reader, const std::string& key) {
  return reader.require_float(key);
}
template <>
bool convert(JsonReader& reader, const std::string& key) {
  return reader.get_bool(key, false);
}
template <>
std::vector<double> convert(JsonReader& reader, const std::string& key) {
  return reader.get_floats(key, {});
}
template <>
fs::path convert(JsonReader& reader, const std::string& key) {
  if (!reader.get_json(key)->is_object()) return reader.require_string(key);
  JsonReader record = *reader.get_object(key);
  fs::path path = read_file_record(record);
  record.finish();
  return path;
}
template <>
FrameRate convert(JsonReader& reader, const std::string& key) {
  if (reader.get_json(key)->is_string()) return parse_frame_rate(reader.require_string(key));
  return {.numerator = convert<int>(reader, key), .denominator = 1};
}
template <>
SparsityConfig convert(JsonReader& reader, const std::string& key) {
  reader.get_object(key);
  return parse_sparsity_config(reader.get_json(key)->dump(), reader.locate(key));
}

template <typename T>
OrderedJson to_value(const T& value) {
  return value;
}
OrderedJson to_value(const fs::path& path) { return describe_file(path); }
OrderedJson to_value(const SparsityConfig& config) { return OrderedJson::parse(to_json(config)); }
OrderedJson to_value(const FrameRate& fps) {
  return fps.denominator == 1 ? OrderedJson(fps.numerator) : OrderedJson(to_string(fps));
}

template <typename Wanted>
Request read_fields(JsonReader& reader, const Wanted& is_wanted) {
  Request request;
  visit_request(request, [&](const Field& field, auto& value, auto /*target*/) {
    const std::string key(field.name);
    if (!is_wanted(field) || reader.get_json(key) == nullptr) return;
    try {
      value = convert<typename std::remove_cvref_t<decltype(value)>::value_type>(reader, key);
      check_range(field, *value);
    } catch (const InvalidRequest& error) {
      fail("{}: {}", reader.locate(key), error.problem());
    }
  });
  return request;
}

}  // namespace

void set_from_text(Request& request, std::string_view name, const std::string& text) {
  visit_request(request, [&](const Field& field, auto& value, auto /*target*/) {
    if (field.name != name) return;
    typename std::remove_cvref_t<decltype(value)>::value_type parsed{};
    parse(field, text, parsed);
    check_range(field, parsed);
    value = std::move(parsed);
  });
}

Request read_request(JsonReader& reader) {
  return read_fields(reader, [](const Field& /*field*/) { return true; });
}

Request read_playback(JsonReader& reader) {
  return read_fields(reader, [](const Field& field) { return field.offer == Offer::kPlayback; });
}

void write_field(OrderedJson& json, const Request& request, std::string_view name) {
  visit_request(request, [&](const Field& field, const auto& value, auto /*target*/) {
    if (field.name == name && value) json[std::string(field.name)] = to_value(*value);
  });
}

OrderedJson describe_request(const Request& request) {
  OrderedJson json = OrderedJson::object();
  visit_request(request, [&](const Field& field, const auto& /*value*/, auto /*target*/) {
    const bool is_overruled =
        !field.overruled_by.empty() && is_given(request, field.overruled_by);
    if (field.offer == Offer::kPlayback || is_overruled) return;
    write_field(json, request, field.name);
  });
  return json;
}

std::string path_text(const fs::path& path) {
  std::string text = path.string();
  if (!is_utf8(text)) {
    fail("'{}': wanted a name in UTF-8, which the JSON beside a video can hold", text);
  }
  return text;
}

OrderedJson describe_file(const fs::path& path) {
  return {{"path", path_text(fs::absolute(path).lexically_normal())},
          {"size_bytes", fs::file_size(path)},
          {"fingerprint", fingerprint_file(path)}};
}

fs::path read_file_record(JsonReader& record) {
  const fs::path path = record.require_string("path");
  record.get_int("size_bytes", 0);
  const std::string wanted = record.require_string("fingerprint");
  const std::string found = fingerprint_file(path);
  if (found != wanted) {
    fail("'{}' has changed since: wanted fingerprint {}, found {}", path.string(), wanted, found);
  }
  return path;
}

std::string to_string(const FrameRate& fps) {
  if (fps.denominator == 1) return fmt::format("{}", fps.numerator);
  return fmt::format("{}/{}", fps.numerator, fps.denominator);
}

FrameRate parse_frame_rate(const std::string& text) {
  const std::size_t slash = text.find('/');
  FrameRate fps;
  const bool is_read =
      parse_number(std::string_view(text).substr(0, slash), fps.numerator) &&
      (slash == std::string::npos ||
       parse_number(std::string_view(text).substr(slash + 1), fps.denominator));
  if (slash == std::string::npos) fps.denominator = 1;
  if (!is_read || fps.denominator < 1) {
    throw InvalidRequest("fps", fmt::format("wanted a rate such as 24 or 24000/1001, found '{}'",
                                            text));
  }
  return fps;
}

}  // namespace mochi::job
