#include "io/json.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/mapped_file.h"
#include "base/nearest.h"
#include "base/text_file.h"

namespace mochi {
namespace {

// Printing a value recurses, so hostile nesting must end before the stack does.
constexpr std::size_t kMaxDepth = 100;

// An index of the largest checkpoints has less than 1 MiB.
constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

// "line 3, column 7" of a byte (counted from 1); "column 7" where the text is a single line.
std::string describe_position(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, byte > 0 ? byte - 1 : 0);
  const auto num_breaks = std::count(before.begin(), before.end(), '\n');
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 == 0
  const std::size_t column = before.size() - line_begin + 1;
  if (text.find('\n') == std::string_view::npos) return fmt::format("column {}", column);
  return fmt::format("line {}, column {}", num_breaks + 1, column);
}

// "unexpected '}'" of the library's "[json.exception...] parse error at line 1, column 2: syntax
// error while parsing value - unexpected '}'; expected '[', ...".
std::string_view reason_of(std::string_view message) {
  constexpr std::string_view kDash = " - ";
  const std::size_t dash = message.find(kDash);
  if (dash == std::string_view::npos) return "syntax error";
  const std::string_view reason = message.substr(dash + kDash.size());
  return reason.substr(0, reason.find(';'));
}

// Builds the value that nlohmann's parser reports. Its own builder keeps the last of duplicate keys
// and accepts any depth.
class JsonBuilder final : public nlohmann::json_sax<Json> {
 public:
  JsonBuilder(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(std::int64_t value) override { return put(value); }
  bool number_unsigned(std::uint64_t value) override { return put(value); }
  bool number_float(double value, const std::string& /*text*/) override { return put(value); }
  bool string(std::string& value) override { return put(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) override { return false; }  // is not in texts
  bool start_object(std::size_t /*size*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*size*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    const auto [member, is_new] = members.emplace(name, nullptr);
    if (!is_new) fail("{}: duplicate key '{}'", source_, name);
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string& /*token*/,
                   const Json::exception& error) override {
    const bool is_number = dynamic_cast<const Json::out_of_range*>(&error) != nullptr;
    fail("{}: {}: not valid JSON: {}", source_, describe_position(text_, byte),
         is_number ? "a number is out of range" : reason_of(error.what()));
  }

 private:
  bool put(Json value) {
    add(std::move(value));
    return true;
  }

  // Returns the place of the value.
  Json* add(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->emplace_back(std::move(value));
    return &(*member_ = std::move(value));
  }

  bool open(Json value) {
    if (open_.size() == kMaxDepth) fail("{}: JSON is nested deeper than {}", source_, kMaxDepth);
    open_.push_back(add(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& source_;
  Json root_;
  std::vector<Json*> open_;  // objects and arrays, from the root on
  Json* member_ = nullptr;   // the innermost object's, where the next value goes
};

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
  JsonBuilder builder(text, source);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json parse_json_file(std::string_view content, const std::filesystem::path& path) {
  check_text(path, content, "a JSON file");
  return parse_json(content, path.string());
}

Json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() > kMaxFileBytes) {
    fail("cannot read '{}': wanted a JSON file of at most {} bytes, found {}", path.string(),
         kMaxFileBytes, file.bytes().size());
  }
  return parse_json_file(file.text(), path);
}

Json read_json(const std::filesystem::path& path, const StopFn& should_stop) {
  return parse_json_file(read_text_file(path, kMaxFileBytes, should_stop), path);
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
