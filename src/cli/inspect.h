// `mochi inspect`: the contents of a model folder or a file of weights.
#pragma once

#include <filesystem>

#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct InspectOptions {
  std::filesystem::path path;
  bool lists_tensors = false;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_inspect_flags(CLI::App& command, InspectOptions& options);

// Prints to stdout. Throws Error when the path cannot be read, and, after printing, when networks
// are incomplete.
void run_inspect(const InspectOptions& options);

}  // namespace mochi::cli
