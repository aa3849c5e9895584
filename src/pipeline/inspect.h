// Reports on one file of weights, or of an index and its shards.
#pragma once

#include <memory>
#include <optional>

#include "io/checkpoint.h"
#include "mochi/inspect.h"
#include "pipeline/model_config.h"

namespace mochi {

// Without a config the sizes of its networks come from the shapes of the tensors.
InspectReport inspect_checkpoint(const std::shared_ptr<Checkpoint>& checkpoint,
                                 const std::optional<ModelConfig>& config);

}  // namespace mochi
