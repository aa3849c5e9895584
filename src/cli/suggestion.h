// Messages about flags and words that a command does not know.
#pragma once

#include <span>
#include <string>

#include "cli/flag_table.h"

namespace mochi::cli {

// `command`: the name of the chosen command, empty if there is none.
std::string describe_unknown_flag(std::span<const CommandInfo> commands, const std::string& command,
                                  const std::string& flag);

std::string describe_unknown_command(std::span<const CommandInfo> commands,
                                     const std::string& word);

}  // namespace mochi::cli
