// JSON from files and users: duplicate and unknown keys are errors, and every error names the file
// and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"

namespace mochi {

using Json = nlohmann::json;

// `source` names the text in error messages.
Json parse_json(std::string_view text, const std::string& source);
// The content of a file; one that holds something else is named as what it is.
Json parse_json_file(std::string_view content, const std::filesystem::path& path);
// A regular file.
Json read_json(const std::filesystem::path& path);
// Also a pipe, whose writer is waited for until should_stop says so.
Json read_json(const std::filesystem::path& path, const StopFn& should_stop);

// Reads one JSON object key by key and remembers which keys were read, so that finish() can
// refuse the rest. The Json must outlive the reader.
//
//   JsonReader reader(json, "config.json");
//   config.depth = reader.get_int("depth", config.depth);
//   reader.finish();
class JsonReader {
 public:
  // `path` is the dotted path of `object` inside the file, empty at its root.
  JsonReader(const Json& object, std::string source, std::string path = "");

  bool has(const std::string& key) const;

  // The value, or `fallback` when the key is absent. A value of another type is an Error.
  std::int64_t get_int(const std::string& key, std::int64_t fallback);
  std::uint64_t get_uint(const std::string& key, std::uint64_t fallback);
  double get_float(const std::string& key, double fallback);
  bool get_bool(const std::string& key, bool fallback);
  std::string get_string(const std::string& key, const std::string& fallback);
  std::vector<std::int64_t> get_ints(const std::string& key, std::vector<std::int64_t> fallback);
  std::vector<double> get_floats(const std::string& key, std::vector<double> fallback);
  std::vector<bool> get_bools(const std::string& key, std::vector<bool> fallback);
  std::vector<std::string> get_strings(const std::string& key, std::vector<std::string> fallback);

  // Return the value of a key that must be present. Throw Error if it is missing.
  std::int64_t require_int(const std::string& key);
  double require_float(const std::string& key);
  std::string require_string(const std::string& key);

  // The value as it is, for keys of more than one type; null when the key is absent.
  const Json* get_json(const std::string& key) { return find(key); }

  // A nested object; nothing when the key is absent.
  std::optional<JsonReader> get_object(const std::string& key);

  // Throws Error for a key that was never read, naming the nearest known one.
  void finish() const;

  // "config.json: dit.depth", for messages of the caller's own checks.
  std::string locate(const std::string& key) const;

 private:
  const Json* find(const std::string& key);
  [[noreturn]] void fail_missing(const std::string& key) const;

  const Json* object_;
  std::string source_;
  std::string path_;
  std::vector<std::string> known_;
};

}  // namespace mochi
