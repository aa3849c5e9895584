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

// Empty lines, and those that begin with #, are left out, and space around a prompt. Throws Error
// naming the file; also when there is no prompt in it.
std::vector<LinePrompt> read_prompts(const std::filesystem::path& path,
                                     const StopFn& should_stop = {});

}  // namespace mochi::job
