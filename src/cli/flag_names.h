// Field names of the engine's messages as users of the command line know them.
#pragma once

#include <string>

namespace mochi::cli {

// "num_frames: wanted ..." → "--num-frames: wanted ...".
std::string name_flag(std::string message);

}  // namespace mochi::cli
