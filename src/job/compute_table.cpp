#include "job/compute_table.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <string>

#include "base/error.h"
#include "job/json_values.h"

namespace mochi::job {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kType = "compute";
constexpr const char* kOverrides = "compute_overrides";
constexpr int kLastBlock = std::numeric_limits<int>::max();

std::string describe_range(const ComputeOverride& entry) {
  if (entry.first_block == entry.last_block) return std::to_string(entry.first_block);
  return fmt::format("{}-{}", entry.first_block, entry.last_block);
}

OrderedJson describe(const ComputeOverride& entry) {
  OrderedJson json;
  if (entry.first_block > 0 || entry.last_block < kLastBlock) {
    json["blocks"] = describe_range(entry);
  }
  if (entry.layers) json["layers"] = name_of(*entry.layers);
  json["type"] = name_of(entry.type);
  return json;
}

// "3" or "0-5"
void read_range(JsonReader& reader, ComputeOverride& entry) {
  if (!reader.has("blocks")) return;
  const std::string text = reader.require_string("blocks");
  const char* const end = text.data() + text.size();
  const auto [middle, error] = std::from_chars(text.data(), end, entry.first_block);
  bool is_range = error == std::errc() && entry.first_block >= 0;
  entry.last_block = entry.first_block;
  if (is_range && middle != end) {
    is_range = *middle == '-';
    const auto [rest, last_error] =
        std::from_chars(is_range ? middle + 1 : end, end, entry.last_block);
    is_range = is_range && last_error == std::errc() && rest == end &&
               entry.last_block >= entry.first_block;
  }
  if (!is_range) {
    fail("{}: wanted a range of blocks such as \"0-5\" or \"3\", found '{}'",
         reader.locate("blocks"), text);
  }
}

ComputeOverride read_override(JsonReader& reader) {
  ComputeOverride entry;
  read_range(reader, entry);
  if (reader.has("layers")) entry.layers = read_choice(reader, "layers", kLayerGroups);
  entry.type = read_choice(reader, "type", kComputeTypes);
  reader.finish();
  return entry;
}

}  // namespace

void describe_compute(const ComputePlan& plan, OrderedJson& json) {
  json[kType] = name_of(plan.type);
  if (plan.overrides.empty()) return;
  json[kOverrides] = OrderedJson::array();
  for (const ComputeOverride& entry : plan.overrides) json[kOverrides].push_back(describe(entry));
}

std::optional<ComputePlan> read_compute(JsonReader& reader) {
  if (!reader.has(kType)) return std::nullopt;
  ComputePlan plan{.type = read_choice(reader, kType, kComputeTypes)};
  for (JsonReader& item : read_list(reader, kOverrides)) {
    plan.overrides.push_back(read_override(item));
  }
  return plan;
}

ComputePlan load_compute_table(const std::filesystem::path& path) {
  const Json json = read_json(path);
  JsonReader reader(json, "'" + path.string() + "'");
  std::optional<ComputePlan> plan = read_compute(reader);
  if (!plan) fail("{}: key is missing", reader.locate(kType));
  reader.finish();
  return *plan;
}

}  // namespace mochi::job
