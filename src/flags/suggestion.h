// Messages about flags and words that a command does not know.
#pragma once

#include <span>
#include <string>

#include "flags/flag_table.h"

namespace mochi::flags {

// `command`: the name of the chosen command, empty if there is none.
std::string describe_unknown_flag(std::span<const CommandInfo> commands, const std::string& command,
                                  const std::string& flag);

std::string describe_unknown_command(std::span<const CommandInfo> commands,
                                     const std::string& word);

}  // namespace mochi::flags
