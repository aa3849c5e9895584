// `mochi compare`: how close two videos, folders of PNGs or latents files are.
#pragma once

#include <filesystem>

#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct CompareOptions {
  std::filesystem::path first, second;
  bool prints_json = false;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_compare_flags(CLI::App& command, CompareOptions& options);

// Throws Error naming the file when the two cannot be compared.
void run_compare(const CompareOptions& options);

}  // namespace mochi::cli
