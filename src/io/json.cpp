#include "io/json.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/nearest.h"
#include "io/file_kind.h"

namespace mochi {
namespace {

// Printing a value recurses, so hostile nesting must end before the stack does.
constexpr int kMaxDepth = 100;

// What nlohmann lets pass while it parses: duplicate keys (it keeps the last) and any depth.
class ParseChecks {
 public:
  explicit ParseChecks(const std::string& source) : source_(source) {}

  void see(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxDepth) fail("{}: JSON is nested deeper than {}", source_, kMaxDepth);
    if (event == Json::parse_event_t::object_start) {
      keys_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) fail("{}: duplicate key '{}'", source_, key);
    }
  }

 private:
  const std::string& source_;
  std::vector<std::set<std::string>> keys_;  // of the objects now open
};

// "line 3, column 7" of a byte (counted from 1); "column 7" where the text is a single line.
std::string describe_position(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, byte > 0 ? byte - 1 : 0);
  const auto num_breaks = std::count(before.begin(), before.end(), '\n');
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 == 0
  const std::size_t column = before.size() - line_begin + 1;
  if (text.find('\n') == std::string_view::npos) return fmt::format("column {}", column);
  return fmt::format("line {}, column {}", num_breaks + 1, column);
}

// What nlohmann says, less its prefix "[json.exception...] parse error at line 1, column 2: ".
std::string_view reason_of(std::string_view message) {
  const std::size_t position = message.find("column ");
  const std::size_t colon = message.find(": ", position == std::string_view::npos ? 0 : position);
  return colon == std::string_view::npos ? message : message.substr(colon + 2);
}

template <typename T>
struct JsonType;

template <>
struct JsonType<std::int64_t> {
  static constexpr const char* kName = "an integer";
  static bool matches(const Json& value) {
    // An unsigned value above the signed range would wrap.
    return value.is_number_integer() && !(value.is_number_unsigned() &&
                                          !std::in_range<std::int64_t>(value.get<std::uint64_t>()));
  }
};

template <>
struct JsonType<std::uint64_t> {
  static constexpr const char* kName = "an integer, 0 or more";
  static bool matches(const Json& value) { return value.is_number_unsigned(); }
};

template <>
struct JsonType<double> {
  static constexpr const char* kName = "a number";
  static bool matches(const Json& value) { return value.is_number(); }
};

template <>
struct JsonType<bool> {
  static constexpr const char* kName = "true or false";
  static bool matches(const Json& value) { return value.is_boolean(); }
};

template <>
struct JsonType<std::string> {
  static constexpr const char* kName = "a string";
  static bool matches(const Json& value) { return value.is_string(); }
};

std::string excerpt(const Json& value) {
  constexpr std::size_t kMaxLength = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return text;
}

template <typename T>
T convert(const Json& value, const std::string& where) {
  if (!JsonType<T>::matches(value)) {
    fail("{}: wanted {}, found {}", where, JsonType<T>::kName, excerpt(value));
  }
  return value.get<T>();
}

template <typename T>
std::vector<T> convert_list(const Json& value, const std::string& where) {
  if (!value.is_array()) fail("{}: wanted a list, found {}", where, excerpt(value));
  std::vector<T> list;
  for (const Json& item : value) {
    list.push_back(convert<T>(item, fmt::format("{}[{}]", where, list.size())));
  }
  return list;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  ParseChecks checks(source);
  try {
    return Json::parse(text.begin(), text.end(),
                       [&checks](int depth, Json::parse_event_t event, const Json& parsed) {
                         checks.see(depth, event, parsed);
                         return true;
                       });
  } catch (const Json::parse_error& error) {
    fail("{}: {}: not valid JSON: {}", source, describe_position(text, error.byte),
         reason_of(error.what()));
  } catch (const Json::exception& error) {
    fail("{}: not valid JSON: {}", source, error.what());
  }
}

Json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  // A file of another kind is named as what it is; of a text the place of the error is told.
  if (const FileKind kind = recognise_content(bytes); !kind.is_text || !kind.remedy.empty()) {
    fail_wrong_kind(path, bytes, "a JSON file");
  }
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

JsonReader::JsonReader(const Json& object, std::string source, std::string path)
    : object_(&object), source_(std::move(source)), path_(std::move(path)) {
  if (object.is_object()) return;
  const std::string where = path_.empty() ? source_ : fmt::format("{}: {}", source_, path_);
  fail("{}: wanted an object, found {}", where, excerpt(object));
}

bool JsonReader::has(const std::string& key) const { return object_->contains(key); }

const Json* JsonReader::find(const std::string& key) {
  if (std::ranges::find(known_, key) == known_.end()) known_.push_back(key);
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

std::string JsonReader::locate(const std::string& key) const {
  return path_.empty() ? fmt::format("{}: {}", source_, key)
                       : fmt::format("{}: {}.{}", source_, path_, key);
}

void JsonReader::fail_missing(const std::string& key) const {
  fail("{}: key is missing", locate(key));
}

std::int64_t JsonReader::get_int(const std::string& key, std::int64_t fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : convert<std::int64_t>(*value, locate(key));
}

std::uint64_t JsonReader::get_uint(const std::string& key, std::uint64_t fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : convert<std::uint64_t>(*value, locate(key));
}

double JsonReader::get_float(const std::string& key, double fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : convert<double>(*value, locate(key));
}

bool JsonReader::get_bool(const std::string& key, bool fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : convert<bool>(*value, locate(key));
}

std::string JsonReader::get_string(const std::string& key, const std::string& fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : convert<std::string>(*value, locate(key));
}

std::vector<std::int64_t> JsonReader::get_ints(const std::string& key,
                                               std::vector<std::int64_t> fallback) {
  const Json* value = find(key);
  return value == nullptr ? std::move(fallback) : convert_list<std::int64_t>(*value, locate(key));
}

std::vector<double> JsonReader::get_floats(const std::string& key, std::vector<double> fallback) {
  const Json* value = find(key);
  return value == nullptr ? std::move(fallback) : convert_list<double>(*value, locate(key));
}

std::vector<bool> JsonReader::get_bools(const std::string& key, std::vector<bool> fallback) {
  const Json* value = find(key);
  return value == nullptr ? std::move(fallback) : convert_list<bool>(*value, locate(key));
}

std::vector<std::string> JsonReader::get_strings(const std::string& key,
                                                 std::vector<std::string> fallback) {
  const Json* value = find(key);
  return value == nullptr ? std::move(fallback) : convert_list<std::string>(*value, locate(key));
}

std::int64_t JsonReader::require_int(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) fail_missing(key);
  return convert<std::int64_t>(*value, locate(key));
}

double JsonReader::require_float(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) fail_missing(key);
  return convert<double>(*value, locate(key));
}

std::string JsonReader::require_string(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) fail_missing(key);
  return convert<std::string>(*value, locate(key));
}

std::optional<JsonReader> JsonReader::get_object(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return JsonReader(*value, source_, path_.empty() ? key : fmt::format("{}.{}", path_, key));
}

void JsonReader::finish() const {
  for (const auto& [key, value] : object_->items()) {
    if (std::ranges::find(known_, key) == known_.end()) {
      fail("{}: unknown key, {}", locate(key), suggest_name(key, known_));
    }
  }
}

}  // namespace mochi
