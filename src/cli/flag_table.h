// Commands and flags as data, read off the app: what manual and completions are made from.
#pragma once

#include <string>
#include <vector>

#include "cli/cli_fwd.h"

namespace mochi::cli {

struct FlagInfo {
  std::string name;  // "--out"; of a positional argument "VIDEO"
  bool is_positional = false;
  std::string value;  // "FILE", "INT", "auto|cpu"; empty: a flag without one
  std::string help;
  std::string default_text;  // empty: none, or told in the help
  std::string group;
};

struct CommandInfo {
  std::string name;
  std::string help;
  std::vector<FlagInfo> flags;  // in order of their declaration, positional ones first
};

std::vector<CommandInfo> list_commands(const CLI::App& app);

// The words of "auto|cpu"; none where the value is of another kind.
std::vector<std::string> choices_of(const FlagInfo& flag);

}  // namespace mochi::cli
