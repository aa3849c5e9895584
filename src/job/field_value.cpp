#include "job/field_value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kRandom = "random";  // a seed

[[noreturn]] void refuse_value(const Field& field, const std::string& wanted,
                               const std::string& found) {
  throw InvalidRequest(std::string(field.name), fmt::format("wanted {}, found {}", wanted, found));
}

// At most 53 bits, which programs that read JSON numbers as doubles keep.
std::uint64_t draw_seed() {
  constexpr int kNumDroppedBits = 64 - 53;
  std::random_device device;
  return (std::uint64_t{device()} << 32 | device()) >> kNumDroppedBits;
}

template <typename T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

void check_range(const Field& field, double value, const std::string& found) {
  if (value >= field.range.min && value <= field.range.max) return;
  refuse_value(field, fmt::format("{} to {}", field.range.min, field.range.max), found);
}

template <typename T>
void check_range(const Field& /*field*/, const T& /*value*/) {}
void check_range(const Field& field, int value) {
  check_range(field, static_cast<double>(value), fmt::format("{}", value));
}
void check_range(const Field& field, double value) {
  if (!std::isfinite(value)) refuse_value(field, "a finite number", fmt::format("{}", value));
  check_range(field, value, fmt::format("{}", value));
}

// ---- text ----

void parse(const Field& /*field*/, const std::string& text, std::string& value) { value = text; }

void parse(const Field& field, const std::string& text, fs::path& value) {
  if (text.empty()) refuse_value(field, "a file", "''");
  value = text;
}

void parse(const Field& field, const std::string& text, int& value) {
  if (!parse_number(text, value)) refuse_value(field, "an integer", fmt::format("'{}'", text));
}

void parse(const Field& field, const std::string& text, std::uint64_t& value) {
  if (text == kRandom) {
    value = draw_seed();
  } else if (!parse_number(text, value)) {
    refuse_value(field,
                 fmt::format("0 to {} or '{}'", std::numeric_limits<std::uint64_t>::max(), kRandom),
                 fmt::format("'{}'", text));
  }
}

void parse(const Field& field, const std::string& text, double& value) {
  if (!parse_number(text, value)) refuse_value(field, "a number", fmt::format("'{}'", text));
}

void parse(const Field& field, const std::string& text, std::vector<double>& values) {
  values.clear();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    double value = 0;
    if (!parse_number(std::string_view(text).substr(begin, end - begin), value)) {
      refuse_value(field, "numbers with commas between them", fmt::format("'{}'", text));
    }
    check_range(field, value);
    values.push_back(value);
    begin = end + 1;
  }
}

FrameRate read_rate(const Field& field, const std::string& text) {
  const std::optional<FrameRate> rate = parse_frame_rate(text);
  if (!rate) refuse_value(field, std::string(kFrameRateRule), fmt::format("'{}'", text));
  return *rate;
}

void parse(const Field& field, const std::string& text, FrameRate& value) {
  value = read_rate(field, text);
}

void parse(const Field& field, const std::string& text, NoiseSource& value) {
  const std::optional<NoiseSource> source = parse_noise_source(text);
  if (!source) refuse_value(field, std::string(field.value), fmt::format("'{}'", text));
  value = *source;
}

void parse(const Field& field, const std::string& text, SkipTier& value) {
  const std::optional<SkipTier> tier = parse_skip_tier(text);
  if (!tier) refuse_value(field, std::string(field.value), fmt::format("'{}'", text));
  value = *tier;
}

void parse(const Field& field, const std::string& text, bool& value) {
  if (text != "true" && text != "false")
    refuse_value(field, "true or false", fmt::format("'{}'", text));
  value = text == "true";
}

void parse(const Field& field, const std::string& text, SparsityConfig& value) {
  value = parse_sparsity_config(text, std::string(field.name)).config;
}

// ---- JSON ----

void convert(JsonReader& reader, const Field& field, std::string& value) {
  value = reader.require_string(std::string(field.name));
}

void convert(JsonReader& reader, const Field& field, int& value) {
  const std::int64_t number = reader.require_int(std::string(field.name));
  if (!std::in_range<int>(number)) {
    using Int = std::numeric_limits<int>;
    refuse_value(field,
                 fmt::format("{} to {}", std::max<double>(field.range.min, Int::min()),
                             std::min<double>(field.range.max, Int::max())),
                 fmt::format("{}", number));
  }
  value = static_cast<int>(number);
}

void convert(JsonReader& reader, const Field& field, std::uint64_t& value) {
  const std::string key(field.name);
  const bool is_random = *reader.get_json(key) == kRandom;
  value = is_random ? draw_seed() : reader.get_uint(key, 0);
}

void convert(JsonReader& reader, const Field& field, double& value) {
  value = reader.require_float(std::string(field.name));
}

void convert(JsonReader& reader, const Field& field, bool& value) {
  value = reader.get_bool(std::string(field.name), false);
}

void convert(JsonReader& reader, const Field& field, std::vector<double>& values) {
  values = reader.get_floats(std::string(field.name), {});
  if (values.empty()) refuse_value(field, "a list of numbers", "an empty one");
}

void convert(JsonReader& reader, const Field& field, fs::path& value) {
  const std::string key(field.name);
  if (!reader.get_json(key)->is_object()) return parse(field, reader.require_string(key), value);
  if (std::optional<JsonReader> record = reader.get_object(key)) {
    value = read_file_record(*record);
    record->finish();
  }
}

void convert(JsonReader& reader, const Field& field, FrameRate& value) {
  const Json& json = *reader.get_json(std::string(field.name));
  const bool is_number = json.is_number();
  value =
      read_rate(field, is_number ? json.dump() : reader.require_string(std::string(field.name)));
}

void convert(JsonReader& reader, const Field& field, NoiseSource& value) {
  parse(field, reader.require_string(std::string(field.name)), value);
}

void convert(JsonReader& reader, const Field& field, SkipTier& value) {
  parse(field, reader.require_string(std::string(field.name)), value);
}

void convert(JsonReader& reader, const Field& field, SparsityConfig& value) {
  const std::string key(field.name);
  reader.get_object(key);
  value = parse_sparsity_config(reader.get_json(key)->dump(), reader.locate(key)).config;
}

template <typename T>
OrderedJson to_value(const T& value) {
  return value;
}
OrderedJson to_value(const fs::path& path) { return describe_file(path); }
OrderedJson to_value(const SparsityConfig& config) { return OrderedJson::parse(to_json(config)); }
OrderedJson to_value(const FrameRate& fps) {
  return fps.denominator == 1 ? OrderedJson(fps.numerator) : OrderedJson(format_frame_rate(fps));
}
OrderedJson to_value(NoiseSource source) { return std::string(name_of(source)); }
OrderedJson to_value(SkipTier tier) { return std::string(name_of(tier)); }

template <typename Wanted>
Request read_fields(JsonReader& reader, const Wanted& is_wanted) {
  Request request;
  visit_request(request, [&](const Field& field, auto& value, auto /*target*/) {
    const std::string key(field.name);
    if (!is_wanted(field) || reader.get_json(key) == nullptr) return;
    try {
      convert(reader, field, value.emplace());
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
    const bool is_overruled = !field.overruled_by.empty() && is_given(request, field.overruled_by);
    if (field.offer == Offer::kPlayback || is_overruled) return;
    write_field(json, request, field.name);
  });
  return json;
}

std::string path_text(const fs::path& path) {
  std::string text = path.string();
  if (find_invalid_utf8(text)) {
    fail("'{}': wanted a name in UTF-8, which the JSON next to a video can hold", text);
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

}  // namespace mochi::job
