// The data of a ModelInfo.
#pragma once

#include "dit/lora.h"
#include "mochi/mochi.h"
#include "pipeline/model_directory.h"

namespace mochi {

struct ModelInfo::Data {
  explicit Data(const EngineOptions& options);

  ModelDirectory directory;
  LoraDeltas loras;
};

}  // namespace mochi
