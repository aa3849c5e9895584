// The files that come with the program.
#pragma once

#include <filesystem>

#include "mochi/mochi.h"

namespace mochi::job {

// models/micro next to the program: in its source tree or below its install prefix. Throws
// InvalidRequest naming "model_dir" and the places.
std::filesystem::path find_bundled_model();
// Likewise chipmunk-config.yml, for "chipmunk_config".
std::filesystem::path find_bundled_sparsity();

// Takes the bundled model if no model is named but one is needed.
void choose_model(EngineOptions& options);

}  // namespace mochi::job
