#include "job/check_same.h"

#include "base/error.h"

namespace mochi::job {

void check_same(const std::string& owner, const nlohmann::ordered_json& wanted, const Json& found) {
  for (const auto& [key, value] : wanted.items()) {
    const Json saved = found.value(key, Json());
    if (Json(value) == saved) continue;
    if (value.is_object()) fail("{} has another {}", owner, key);
    fail("{} has {} {}, wanted is {}", owner, key, saved.dump(), value.dump());
  }
  for (const auto& [key, saved] : found.items()) {
    if (!wanted.contains(key)) fail("{} has a {} of its own", owner, key);
  }
}

}  // namespace mochi::job
