// The flags that set the engine's fields: what is wrong with a field is told about its flag.
#pragma once

#include <string>
#include <string_view>

#include "cli/cli_fwd.h"

namespace mochi::cli {

// "num_frames" → "--num-frames", where the command declares that flag; else the field itself.
std::string flag_of_field(const CLI::App& command, std::string_view field);

}  // namespace mochi::cli
