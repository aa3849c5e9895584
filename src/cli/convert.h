// `mochi convert`: a network's weights to another precision.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct ConvertCommandOptions {
  std::filesystem::path input;
  std::filesystem::path output;
  std::string format;
  std::optional<std::string> network;
  std::vector<std::string> loras;
  bool is_quiet = false;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_convert_flags(CLI::App& command, ConvertCommandOptions& options);

// Throws Error naming the file or the tensor, Cancelled when a signal came.
void run_convert(const ConvertCommandOptions& options);

}  // namespace mochi::cli
