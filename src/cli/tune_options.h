// The flags of `mochi tune`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "flags/cli11_fwd.h"
#include "job/job_options.h"
#include "study/search_space.h"

namespace mochi::cli {

struct TuneOptions {
  double min_psnr = 0;  // dB
  std::filesystem::path prompts;
  std::filesystem::path output;  // a folder
  int max_trials = 32;
  study::SearchScope scope = study::SearchScope::kBoth;
  bool resumes = false;
  bool is_quiet = false;
  bool is_verbose = false;
  std::optional<std::filesystem::path> start;  // --chipmunk-config
  job::JobOptions generation;                  // shared by all videos, without prompt and sparsity
  std::vector<std::string> command;            // the words of the command line
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_tune_flags(CLI::App& command, TuneOptions& options);

}  // namespace mochi::cli
