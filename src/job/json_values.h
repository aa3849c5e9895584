// JSON keys whose values are names or lists of objects.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/json.h"

namespace mochi::job {

// Returns the objects of a list; none without the key.
inline std::vector<JsonReader> read_list(JsonReader& reader, const char* key) {
  const Json* list = reader.get_json(key);
  if (list == nullptr) return {};
  if (!list->is_array()) fail("{}: wanted a list", reader.locate(key));
  std::vector<JsonReader> items;
  for (const Json& item : *list) items.emplace_back(item, reader.locate(key));
  return items;
}

// Returns the value of an enum that a key names.
template <typename E, std::size_t N>
E read_choice(JsonReader& reader, const char* key, const std::array<E, N>& choices) {
  const std::string name = reader.require_string(key);
  std::vector<std::string_view> names;
  for (const E choice : choices) {
    if (name == name_of(choice)) return choice;
    names.push_back(name_of(choice));
  }
  fail("{}: wanted {}, found '{}'", reader.locate(key), fmt::join(names, ", "), name);
}

}  // namespace mochi::job
