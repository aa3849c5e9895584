// Reading a chipmunk-config.yml with yaml-cpp.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <type_traits>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/text_file.h"
#include "sparsity/config_check.h"
#include "sparsity/config_keys.h"
#include "sparsity/key_suggestion.h"
#include "sparsity/overruled_keys.h"

namespace mochi {
namespace {

// Nested maps; each dot in a key counts as one as well.
constexpr int kMaxDepth = 3;
constexpr std::size_t kMaxFileBytes = 1 << 20;

// Describes a value for messages.
std::string show(const YAML::Node& node) {
  if (node.IsNull()) return "nothing";
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a map";
  return "'" + node.Scalar() + "'";
}

const IgnoredKey* find_ignored(const std::string& path) {
  const auto* const found = std::ranges::find(kIgnoredKeys, path, &IgnoredKey::path);
  return found == kIgnoredKeys.end() ? nullptr : found;
}

// All values of a map by their dotted paths, which begin with `prefix`.
class KeyTable {
 public:
  KeyTable(const YAML::Node& root, std::string source, const std::string& prefix = "")
      : source_(std::move(source)) {
    if (root.IsNull()) return;
    if (!root.IsMap()) fail("{}: wanted a map of keys, found {}", locate(root), show(root));
    add(root, prefix, 0);
  }

  // Declares a key as known. Returns its value, or null if the file does not have it.
  const YAML::Node* take(const std::string& path, bool is_suggested = true) {
    if (is_suggested) suggested_.push_back(path);
    const auto found = nodes_.find(path);
    if (found == nodes_.end()) return nullptr;
    taken_.insert(path);
    return &found->second;
  }

  // Refuses the keys that have not been taken, except sections without any key.
  void finish() const {
    for (const auto& [path, node] : nodes_) {
      if (taken_.contains(path)) continue;
      if (is_section(path)) {
        if (node.IsNull()) continue;
        fail("{}: {}: wanted a map of keys, found {}", locate(node), path, show(node));
      }
      const std::string unknown = find_unknown_part(path);
      if (std::ranges::find(suggested_, unknown) != suggested_.end()) {
        fail("{}: {}: wanted a value, found a map", locate(node), unknown);
      }
      fail("{}: key '{}' is not known; {}", locate(node), unknown,
           suggest_key(unknown, suggested_));
    }
  }

  std::string locate(const YAML::Node& node) const {
    return fmt::format("{}:{}", source_, node.Mark().line + 1);
  }

 private:
  // Returns true if the node is the value of its key, not a map of further keys.
  static bool is_leaf(const YAML::Node& node, const std::string& path) {
    return !node.IsMap() || path.ends_with("_schedule") || find_ignored(path) != nullptr;
  }

  bool is_section(const std::string& path) const {
    const std::string prefix = path + ".";
    return std::ranges::any_of(suggested_,
                               [&](const std::string& key) { return key.starts_with(prefix); });
  }

  // The first part of an unknown path that is not a known section: "a.b" of "a.b.c".
  std::string find_unknown_part(const std::string& path) const {
    for (std::size_t dot = path.find('.'); dot != std::string::npos;
         dot = path.find('.', dot + 1)) {
      if (!is_section(path.substr(0, dot))) return path.substr(0, dot);
    }
    return path;
  }

  void add(const YAML::Node& map, const std::string& prefix, int depth) {
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        fail("{}: wanted a key, found {}", locate(entry.first), show(entry.first));
      }
      const std::string path = prefix + entry.first.Scalar();
      const bool is_new = is_leaf(entry.second, path) ? nodes_.emplace(path, entry.second).second
                                                      : sections_.insert(path).second;
      if (!is_new) fail("{}: key '{}' is given twice", locate(entry.first), path);
      if (is_leaf(entry.second, path)) continue;
      if (depth == kMaxDepth) fail("{}: key '{}' is not known", locate(entry.first), path);
      add(entry.second, path + ".", depth + 1);
    }
  }

  std::string source_;
  std::map<std::string, YAML::Node> nodes_;
  std::set<std::string> sections_, taken_;
  std::vector<std::string> suggested_;
};

// Reads the type of one value; ranges are checked later. `where` is "file:line: key".
class ValueReader {
 public:
  ValueReader(const YAML::Node& node, std::string where) : node_(node), where_(std::move(where)) {}

  void read(bool& value) const {
    if (!node_.IsScalar() || !YAML::convert<bool>::decode(node_, value)) {
      refuse("true or false", node_);
    }
  }

  void read(int& value, const ValueRange& range) const { value = read_number<int>(node_, range); }
  void read(double& value, const ValueRange& range) const {
    value = read_number<double>(node_, range);
  }

  void read(DeltaKind& value) const { read_name(value, kDeltaNames); }
  void read(CacheDType& value) const { read_name(value, kCacheDTypeNames); }
  void read(SkipRule& value) const { read_name(value, kSkipRuleNames); }
  void read(Extrapolation& value) const { read_name(value, kExtrapolationNames); }

  // A set is a map of keys without values, with or without !!set; a list will do as well.
  void read(std::set<int>& value) const {
    value.clear();
    if (node_.IsSequence()) {
      for (const auto& item : node_) value.insert(read_number<int>(item, kCount));
    } else if (node_.IsMap()) {
      for (const auto& item : node_) {
        if (!item.second.IsNull()) refuse("steps", item.second);
        value.insert(read_number<int>(item.first, kCount));
      }
    } else {
      refuse("a set of steps", node_);
    }
  }

  // null stands for no value.
  template <typename Value, typename... Range>
  void read(std::optional<Value>& value, const Range&... range) const {
    value.reset();
    if (node_.IsNull()) return;
    Value found{};
    read(found, range...);
    value = found;
  }

  // "3" or "0-5"
  void read(IntRange& value) const {
    std::istringstream text(node_.IsScalar() ? node_.Scalar() : "");
    const auto refuse_range = [&] { refuse("a number or a range such as 0-5", node_); };
    char dash = '-';
    if (!(text >> value.first)) refuse_range();
    value.last = value.first;
    if (!text.eof() && (!(text >> dash >> value.last) || dash != '-')) refuse_range();
    if (text.peek() != EOF) refuse_range();
  }

  void check_type(IgnoredType type) const {
    bool is_set = false;
    double number = 0;
    if (type == IgnoredType::kSwitch) read(is_set);
    if (type != IgnoredType::kNumber) return;
    if (!node_.IsScalar() || !YAML::convert<double>::decode(node_, number))
      refuse("a number", node_);
  }

 private:
  template <typename Value, typename Names>
  void read_name(Value& value, const Names& names) const {
    for (const auto& [name, named] : names) {
      if (node_.IsScalar() && node_.Scalar() == name) {
        value = named;
        return;
      }
    }
    refuse(describe_wanted(value), node_);
  }

  template <typename Number>
  Number read_number(const YAML::Node& node, const ValueRange& range) const {
    Number value{};
    if (!node.IsScalar() || !YAML::convert<Number>::decode(node, value)) {
      refuse(describe_wanted(value, range), node);
    }
    return value;
  }

  [[noreturn]] void refuse(const std::string& wanted, const YAML::Node& found) const {
    fail("{}: wanted {}, found {}", where_, wanted, show(found));
  }

  const YAML::Node& node_;
  std::string where_;
};

class ConfigReader {
 public:
  ConfigReader(const YAML::Node& root, const std::string& source) : source_(source) {
    KeyTable table(root, source);
    visit_sparsity_keys(loaded_.config, [&](const char* path, auto& member, const auto&... range) {
      read(table, path, member, range...);
    });
    if (const YAML::Node* overrides = table.take("overrides")) read_overrides(table, *overrides);
    read_ignored(table);
    table.finish();
    if (const std::optional<ConfigProblem> found = find_problem(loaded_.config)) {
      fail("{}: {}: {}", locate(found->key), found->key, found->problem);
    }
    for (const OverruledKeys& overruled : find_overruled(loaded_.config, given_)) {
      loaded_.warnings.push_back(
          fmt::format("{}: {}", locate(overruled.keys.front()), overruled.describe()));
    }
  }

  LoadedSparsity take() { return std::move(loaded_); }

 private:
  // The place of a key, or the file if the key is not in it.
  std::string locate(const std::string& key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? source_ : found->second;
  }

  void note_given(const KeyTable& table, const std::string& key, const YAML::Node& node) {
    given_.push_back(key);
    places_[key] = table.locate(node);
  }

  template <typename Value, typename... Range>
  void read(KeyTable& table, const std::string& key, Value& value, const Range&... range) {
    const YAML::Node* node = table.take(key);
    if (node == nullptr) return;
    note_given(table, key, *node);
    ValueReader(*node, table.locate(*node) + ": " + key).read(value, range...);
  }

  void read_overrides(const KeyTable& table, const YAML::Node& list) {
    note_given(table, "overrides", list);
    if (!list.IsSequence()) {
      fail("{}: overrides: wanted a list, found {}", table.locate(list), show(list));
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      SparsityOverride& entry = loaded_.config.overrides.emplace_back();
      KeyTable keys(list[i], source_, name_override_key(i, ""));
      const auto read_key = [&](const char* key, auto& value, const auto&... range) {
        read(keys, name_override_key(i, key), value, range...);
      };
      read_key("layers", entry.layers);
      read_key("steps", entry.steps);
      visit_override_keys(entry, read_key);
      keys.finish();
    }
  }

  void read_ignored(KeyTable& table) {
    for (const IgnoredKey& key : kIgnoredKeys) {
      const std::string path(key.path);
      const YAML::Node* node = table.take(path, /*is_suggested=*/false);
      if (node == nullptr) continue;
      ValueReader(*node, table.locate(*node) + ": " + path).check_type(key.type);
      loaded_.ignored_keys.push_back(path);
      if (path == "mlp.is_fp8" && loaded_.config.mlp.is_enabled && node->as<bool>()) {
        fail("{}: {}: wanted false, found true: sparse feed-forward layers have no 8-bit matmuls",
             table.locate(*node), path);
      }
    }
  }

  const std::string& source_;
  LoadedSparsity loaded_;
  std::vector<std::string> given_;             // in the order of the list of keys
  std::map<std::string, std::string> places_;  // "file:line" of each given key
};

// The documents of a text, without an empty last one. YAML::LoadAll() never ends on some invalid
// texts.
int count_documents(const std::string& text) {
  constexpr std::string_view kBlanks = " \t\r";
  int num_documents = 0;
  bool is_begun = false;  // by "---"
  bool has_content = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::string_view rest = line;
    const bool is_marker = rest.starts_with("---") || rest.starts_with("...");
    if (is_marker && (rest.size() == 3 || kBlanks.find(rest[3]) != std::string_view::npos)) {
      if (is_begun && !has_content) ++num_documents;
      is_begun = rest.front() == '-';
      has_content = false;
      rest.remove_prefix(3);
    }
    const std::size_t begin = rest.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos || rest[begin] == '#' || has_content) continue;
    if (rest.starts_with('%')) continue;  // a directive in front of a document
    ++num_documents;
    has_content = true;
  }
  return num_documents;
}

}  // namespace

LoadedSparsity parse_sparsity_config(const std::string& text, const std::string& source) try {
  if (const int num_documents = count_documents(text); num_documents > 1) {
    fail("{}: wanted one YAML document, found {} with '---' between them", source, num_documents);
  }
  return ConfigReader(YAML::Load(text), source).take();
} catch (const YAML::Exception& error) {
  fail("{}:{}: wanted YAML, found a syntax error at column {}", source, error.mark.line + 1,
       error.mark.column + 1);
}

LoadedSparsity load_sparsity_config(const std::filesystem::path& path,
                                    const std::function<bool()>& should_stop) {
  const std::string text = read_text_file(path, kMaxFileBytes, should_stop);
  check_text(path, text, "a YAML file");
  return parse_sparsity_config(text, path.string());
}

}  // namespace mochi
