// chipmunk-config.yml, read by yaml-cpp.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <type_traits>

#include "base/error.h"
#include "base/nearest.h"
#include "sparsity/config_keys.h"

namespace mochi {
namespace {

// Maps in maps; keys with dots count as well.
constexpr int kMaxDepth = 3;
constexpr std::uintmax_t kMaxFileBytes = 1 << 20;

// What stands at a key, for messages.
std::string show(const YAML::Node& node) {
  if (node.IsNull()) return "nothing";
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a map";
  return "'" + node.Scalar() + "'";
}

// Every value of a file by its dotted path.
class KeyTable {
 public:
  KeyTable(const YAML::Node& root, std::string source) : source_(std::move(source)) {
    if (root.IsNull()) return;
    if (!root.IsMap()) fail("{}: wanted a map of keys, found {}", locate(root), show(root));
    add(root, "", 0);
  }

  // The key's value, which counts as read; null when the file does not have it.
  const YAML::Node* take(const std::string& path) {
    known_.push_back(path);
    const auto found = nodes_.find(path);
    if (found == nodes_.end()) return nullptr;
    is_read_[path] = true;
    return &found->second;
  }

  void finish() const {
    for (const auto& [path, node] : nodes_) {
      if (is_read_.contains(path)) continue;
      fail("{}: key '{}' is not known; {}", locate(node), path, suggest_name(path, known_));
    }
  }

  template <typename Node>
  std::string locate(const Node& node) const {
    return fmt::format("{}:{}", source_, node.Mark().line + 1);
  }

 private:
  // A map is one of keys, unless its key takes a set or a list itself.
  static bool is_leaf(const YAML::Node& node, const std::string& path) {
    return !node.IsMap() || path.ends_with("_schedule") || has_no_effect(path);
  }
  static bool has_no_effect(const std::string& path) {
    return std::ranges::find(kKeysWithoutEffect, path) != kKeysWithoutEffect.end();
  }

  void add(const YAML::Node& map, const std::string& prefix, int depth) {
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        fail("{}: wanted a key, found {}", locate(entry.first), show(entry.first));
      }
      const std::string path = prefix + entry.first.Scalar();
      if (has_no_effect(path)) continue;
      if (is_leaf(entry.second, path)) {
        if (!nodes_.emplace(path, entry.second).second) {
          fail("{}: key '{}' is there twice", locate(entry.first), path);
        }
      } else if (depth < kMaxDepth) {
        if (!sections_.emplace(path, true).second) {
          fail("{}: key '{}' is there twice", locate(entry.first), path);
        }
        add(entry.second, path + ".", depth + 1);
      } else {
        fail("{}: key '{}' is not known", locate(entry.first), path);
      }
    }
  }

  std::string source_;
  std::map<std::string, YAML::Node> nodes_;
  std::map<std::string, bool> sections_, is_read_;
  std::vector<std::string> known_;
};

// Reads one value; `where` is "file:line: key".
class ValueReader {
 public:
  ValueReader(const YAML::Node& node, std::string where) : node_(node), where_(std::move(where)) {}

  void read(bool& value) const {
    if (!node_.IsScalar() || !YAML::convert<bool>::decode(node_, value)) {
      refuse("true or false", node_);
    }
  }

  void read(int& value, const ValueRange& range) const { value = read_int(node_, range); }

  void read(double& value, const ValueRange& range) const {
    const auto wanted = fmt::format("{} to {}", range.min, range.max);
    if (!node_.IsScalar() || !YAML::convert<double>::decode(node_, value)) refuse(wanted, node_);
    if (!(range.min <= value && value <= range.max)) refuse(wanted, node_);
  }

  void read(DeltaKind& value) const {
    read_name(value, kDeltaNames, "subtract, weighted, lse_merge, half_merge or none");
  }
  void read(CacheDType& value) const { read_name(value, kCacheDTypeNames, "activation or fp8"); }

  // A set (a map of keys without values, with or without !!set) or a list.
  void read(std::set<int>& value) const {
    value.clear();
    if (node_.IsSequence()) {
      for (const auto& item : node_) value.insert(read_int(item, kCount));
    } else if (node_.IsMap()) {
      for (const auto& item : node_) {
        if (!item.second.IsNull()) refuse("steps", item.second);
        value.insert(read_int(item.first, kCount));
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

  // "3", "0-5".
  void read(IntRange& value) const {
    std::istringstream text(node_.IsScalar() ? node_.Scalar() : "");
    char dash = '-';
    if (!(text >> value.first)) refuse("a number or a range such as 0-5", node_);
    value.last = value.first;
    if (!text.eof() && (!(text >> dash >> value.last) || dash != '-')) {
      refuse("a number or a range such as 0-5", node_);
    }
    if (text.peek() != EOF || value.first < 0 || value.last < value.first) {
      refuse("a number or a range such as 0-5", node_);
    }
  }

 private:
  template <typename Value, typename Names>
  void read_name(Value& value, const Names& names, const std::string& wanted) const {
    for (const auto& [name, named] : names) {
      if (node_.IsScalar() && node_.Scalar() == name) {
        value = named;
        return;
      }
    }
    refuse(wanted, node_);
  }

  int read_int(const YAML::Node& node, const ValueRange& range) const {
    int value = 0;
    const auto wanted = fmt::format("a whole number from {} to {}", range.min, range.max);
    if (!node.IsScalar() || !YAML::convert<int>::decode(node, value)) refuse(wanted, node);
    if (!(range.min <= value && value <= range.max)) refuse(wanted, node);
    return value;
  }

  [[noreturn]] void refuse(const std::string& wanted, const YAML::Node& found) const {
    fail("{}: wanted {}, found {}", where_, wanted, show(found));
  }

  const YAML::Node& node_;
  std::string where_;
};

void read_keys(KeyTable& table, SparsityConfig& config) {
  visit_sparsity_keys(config, [&](const char* path, auto& member, const auto&... range) {
    if (const YAML::Node* node = table.take(path)) {
      const std::string where = table.locate(*node) + ": " + path;
      ValueReader(*node, where).read(member, range...);
    }
  });
}

SparsityOverride read_override(const YAML::Node& node, const std::string& source) {
  KeyTable table(node, source);
  SparsityOverride entry;
  const auto read = [&](const std::string& key, auto& member, const auto&... range) {
    if (const YAML::Node* value = table.take(key)) {
      ValueReader(*value, table.locate(*value) + ": overrides." + key).read(member, range...);
    }
  };
  read("layers", entry.layers);
  read("steps", entry.steps);
  visit_override_keys(entry, read);
  table.finish();
  return entry;
}

// What one key alone cannot tell.
void check(const SparsityConfig& config, const std::string& source) {
  const AttentionSparsity& attn = config.attn;
  if (std::ranges::none_of(kVoxelSizes,
                           [&](const VoxelSize& size) { return size.group_size == attn.mbm; })) {
    fail("{}: attn.mbm: wanted 192, 128 or 64, found {}", source, attn.mbm);
  }
  if (attn.min_keys > attn.max_keys) {
    fail("{}: attn.min_keys: wanted at most attn.max_keys = {}, found {}", source, attn.max_keys,
         attn.min_keys);
  }
  if (config.mlp.is_enabled && config.mlp.is_fp8) {
    fail("{}: mlp.is_fp8: wanted false, found true: there are no 8-bit products here", source);
  }
}

}  // namespace

SparsityConfig parse_sparsity_config(const std::string& text, const std::string& source) try {
  const YAML::Node root = YAML::Load(text);
  KeyTable table(root, source);
  SparsityConfig config;
  read_keys(table, config);
  if (const YAML::Node* overrides = table.take("overrides")) {
    if (!overrides->IsSequence()) {
      fail("{}: overrides: wanted a list, found {}", table.locate(*overrides), show(*overrides));
    }
    for (const auto& entry : *overrides) {
      config.overrides.push_back(read_override(entry, source));
    }
  }
  table.finish();
  check(config, source);
  return config;
} catch (const YAML::Exception& error) {
  fail("{}:{}: wanted YAML, found an error: {}", source, error.mark.line + 1, error.msg);
}

SparsityConfig load_sparsity_config(const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail("{}: cannot be read: {}", path.string(), error.message());
  if (size > kMaxFileBytes) {
    fail("{}: wanted at most {} bytes, found {}", path.string(), kMaxFileBytes, size);
  }
  const std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) fail("{}: cannot be read", path.string());
  return parse_sparsity_config(text.str(), path.string());
}

}  // namespace mochi
