// A file of prompts: one on each line.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/stop.h"

namespace mochi::job {

struct LinePrompt {
  std::string text;
  std::string source;  // "prompts.txt:3", for messages
};

// Skips empty lines and those that begin with #, and strips space around a prompt. Throws Error
// naming the file, also if it has no prompt.
std::vector<LinePrompt> read_prompts(const std::filesystem::path& path,
                                     const StopFn& should_stop = {});

}  // namespace mochi::job
