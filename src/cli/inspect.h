// `mochi inspect`: the contents of a model folder or a file of weights.
#pragma once

#include <filesystem>
#include <vector>

#include "flags/cli11_fwd.h"
#include "mochi/mochi.h"

namespace mochi::cli {

struct InspectOptions {
  std::vector<std::filesystem::path> paths;
  ModelPaths parts;  // replace those of the only path, or stand for it
  bool lists_tensors = false;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_inspect_flags(CLI::App& command, InspectOptions& options);

// Prints to stdout. Throws Error, after everything else is printed, when a path cannot be read or a
// network is incomplete; if there are several such problems, the others are told before.
void run_inspect(const InspectOptions& options);

}  // namespace mochi::cli
