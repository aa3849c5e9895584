// Types of products as JSON: in a table of their own, and in a recipe's engine.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/json.h"
#include "mochi/compute.h"

namespace mochi::job {

// Adds "compute" and, if there are any, "compute_overrides".
void describe_compute(const ComputePlan& plan, nlohmann::ordered_json& json);

// Reads these keys; nothing without "compute". Throws Error naming the key.
std::optional<ComputePlan> read_compute(JsonReader& reader);

// A file with these keys and no others:
//
//   {"compute": "int8", "compute_overrides": [{"blocks": "0-1", "layers": "ffn", "type": "bf16"}]}
//
// A range that is missing means all blocks, and "layers" that are missing all layers of them.
ComputePlan load_compute_table(const std::filesystem::path& path);

}  // namespace mochi::job
