// Reports on one file of weights, or of an index and its shards.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "io/stored_source.h"
#include "mochi/inspect.h"
#include "pipeline/model_config.h"

namespace mochi {

// Returns the config.json of the model folder that a file lies in, directly or in a folder of it.
std::optional<ModelConfig> find_config(const std::filesystem::path& file);

// Without a config the sizes of its networks come from the shapes of the tensors.
InspectReport inspect_weights(const std::shared_ptr<StoredSource>& file,
                              const std::optional<ModelConfig>& config);

}  // namespace mochi
