// The data of a ModelInfo.
#pragma once

#include <string>
#include <vector>

#include "dit/lora.h"
#include "mochi/mochi.h"
#include "pipeline/model_directory.h"

namespace mochi {

struct ModelInfo::Data {
  explicit Data(const EngineOptions& options);

  ModelDirectory directory;
  LoraDeltas loras;
  std::vector<std::string> lora_warnings;
};

}  // namespace mochi
