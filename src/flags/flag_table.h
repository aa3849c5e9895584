// Commands and flags as data, read from the app. Help, manual, completions and error lines are
// generated from them.
#pragma once

#include <string>
#include <vector>

#include "flags/cli11_fwd.h"

namespace mochi::flags {

struct FlagInfo {
  std::string name;                  // "--out"; of a positional argument "VIDEO"
  std::vector<std::string> aliases;  // other spellings that are accepted
  bool is_positional = false;
  bool is_required = false;
  bool is_repeatable = false;  // an argument that takes several words
  std::string value;           // "FILE", "INT", "auto|cpu"; empty: a flag without one
  std::string help;
  std::string default_text;  // empty: none, or stated in the help
  std::string group;
};

struct CommandInfo {
  std::string name;
  std::string help;
  std::vector<FlagInfo> flags;  // positional ones first, then in the groups' order
  std::string examples;         // lines of commands to try; empty: none
};

FlagInfo describe_flag(const CLI::Option& option);

std::vector<CommandInfo> list_commands(const CLI::App& app);

// "--out FILE", "VIDEO", "--quiet".
std::string synopsis_of(const FlagInfo& flag);

// Returns the help, followed by the choices of an argument or the default of a flag.
std::string help_of(const FlagInfo& flag);

// "mochi inspect PATH [flags]"; "[NAME]" and "[NAMES ...]" may be left out.
std::string usage_of(const CommandInfo& command);

// The words of "auto|cpu" and "UINT|random"; none where the value is of another kind.
std::vector<std::string> choices_of(const FlagInfo& flag);

}  // namespace mochi::flags
