// Checks that work that was begun can be resumed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/json.h"

namespace mochi::job {

// Throws Error if the two objects differ, naming the first key that does: "OWNER has seed 3, wanted
// is 4".
void check_same(const std::string& owner, const nlohmann::ordered_json& wanted, const Json& found);

}  // namespace mochi::job
