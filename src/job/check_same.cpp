#include "job/check_same.h"

#include "base/error.h"
#include "mochi/sparsity.h"

namespace mochi::job {
namespace {

// Returns the saved value with only those sparsity keys that have an effect; older versions also
// saved the others. `steps` has one only where the wanted value has it, too.
Json read_saved(const Json& found, const std::string& key, const Json& wanted) {
  Json saved = found.value(key, Json());
  if (key != "sparsity" || !saved.is_object()) return saved;
  SparsityConfig config = parse_sparsity_config(saved.dump(), key).config;
  if (!wanted.contains("steps")) config.steps.reset();
  return Json::parse(to_json(config));
}

}  // namespace

void check_same(const std::string& owner, const nlohmann::ordered_json& wanted, const Json& found) {
  for (const auto& [key, value] : wanted.items()) {
    const Json saved = read_saved(found, key, value);
    if (Json(value) == saved) continue;
    if (value.is_object()) fail("{} has another {}", owner, key);
    fail("{} has {} {}, wanted is {}", owner, key, saved.dump(), value.dump());
  }
  for (const auto& [key, saved] : found.items()) {
    if (!wanted.contains(key)) fail("{} has its own {}", owner, key);
  }
}

}  // namespace mochi::job
