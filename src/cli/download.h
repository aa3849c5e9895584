// `mochi download`: weights from the Hugging Face hub.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct DownloadOptions {
  std::string model;             // a known name, or OWNER/REPO[@REVISION]
  std::filesystem::path folder;  // empty: none given
  std::vector<std::string> patterns;
  std::string precision;  // empty: bf16
  bool with_encoder = false;
  std::vector<std::string> parts;  // parts of a known name; empty: a complete model
  int num_connections = 8;
  bool lists = false;
  bool is_dry_run = false;
  bool is_quiet = false;
  std::vector<std::string> command;  // the words of the command line, the program's name first
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_download_flags(CLI::App& command, DownloadOptions& options);

// Throws UsageError, Error that names the repository or the file, and Cancelled after a signal.
void run_download(const DownloadOptions& options);

}  // namespace mochi::cli
