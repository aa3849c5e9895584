// Writing a SparsityConfig as a chipmunk-config.yml.
#include <fmt/core.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <limits>

#include "sparsity/config_check.h"
#include "sparsity/config_keys.h"
#include "sparsity/overruled_keys.h"

namespace mochi {

namespace {

template <typename Value, typename Names>
std::string_view name_of(Value value, const Names& names) {
  for (const auto& [name, known] : names) {
    if (known == value) return name;
  }
  return "?";
}

}  // namespace

std::string_view delta_name(DeltaKind delta) { return name_of(delta, kDeltaNames); }

namespace {

void write(YAML::Emitter& out, bool value) { out << value; }
void write(YAML::Emitter& out, int value) { out << value; }
void write(YAML::Emitter& out, double value) { out << value; }
void write(YAML::Emitter& out, DeltaKind value) { out << std::string(delta_name(value)); }
void write(YAML::Emitter& out, CacheDType value) {
  out << std::string(name_of(value, kCacheDTypeNames));
}

void write(YAML::Emitter& out, SkipRule value) {
  out << std::string(name_of(value, kSkipRuleNames));
}
void write(YAML::Emitter& out, Extrapolation value) {
  out << std::string(name_of(value, kExtrapolationNames));
}

void write(YAML::Emitter& out, const std::set<int>& value) {
  out << YAML::Flow << YAML::BeginSeq;
  for (const int step : value) out << step;
  out << YAML::EndSeq;
}

template <typename Value>
void write(YAML::Emitter& out, const std::optional<Value>& value) {
  if (value) {
    write(out, *value);
  } else {
    out << YAML::Null;
  }
}

void write(YAML::Emitter& out, const IntRange& value) {
  constexpr auto kOpen = static_cast<int>(kCount.max);  // more than a model or a generation has
  out << fmt::format("{}-{}", value.first, std::min(value.last, std::max(value.first, kOpen)));
}

void write_override(YAML::Emitter& out, const SparsityConfig& config, std::size_t entry_idx) {
  const SparsityOverride& entry = config.overrides[entry_idx];
  const auto write_key = [&](const char* key, const auto& value) {
    out << YAML::Key << key << YAML::Value;
    write(out, value);
  };
  out << YAML::Flow << YAML::BeginMap;
  write_key("layers", entry.layers);
  write_key("steps", entry.steps);
  visit_override_keys(entry, [&](const char* key, const auto& value, const auto&...) {
    if (value && find_overruling(config, name_override_key(entry_idx, key)).empty()) {
      write_key(key, value);
    }
  });
  out << YAML::EndMap;
}

void write_overrides(YAML::Emitter& out, const SparsityConfig& config) {
  if (config.overrides.empty() || !find_overruling(config, "overrides").empty()) return;
  out << YAML::Key << "overrides" << YAML::Value << YAML::BeginSeq;
  for (std::size_t i = 0; i < config.overrides.size(); ++i) write_override(out, config, i);
  out << YAML::EndSeq;
}

std::string emit(const SparsityConfig& config, YAML::Emitter& out) {
  out.SetDoublePrecision(std::numeric_limits<double>::max_digits10);
  out << YAML::BeginMap;
  std::string section;
  visit_sparsity_keys(config, [&](const std::string& path, const auto& member, const auto&...) {
    if (!find_overruling(config, path).empty()) return;
    // The first dot separates the section from the key; keys of offloading have another dot.
    const std::size_t dot = path.find('.');
    if (dot == std::string::npos) {  // all of these come before the sections
      if (!config.steps) return;
      out << YAML::Key << path << YAML::Value;
      write(out, member);
      return;
    }
    const std::string own = path.substr(0, dot);
    if (own != section) {
      if (!section.empty()) out << YAML::EndMap;
      out << YAML::Key << own << YAML::Value << YAML::BeginMap;
      section = own;
    }
    out << YAML::Key << path.substr(dot + 1) << YAML::Value;
    write(out, member);
  });
  out << YAML::EndMap;
  write_overrides(out, config);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace

std::string to_yaml(const SparsityConfig& config) {
  YAML::Emitter out;
  return emit(config, out);
}

// JSON is YAML in flow style with all strings quoted.
std::string to_json(const SparsityConfig& config) {
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  out.SetStringFormat(YAML::DoubleQuoted);
  out.SetNullFormat(YAML::LowerNull);
  return emit(config, out);
}

}  // namespace mochi
