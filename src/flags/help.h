// The texts of `mochi --help` and `mochi COMMAND --help`.
#pragma once

#include <span>
#include <string>

#include "flags/flag_table.h"

namespace mochi::flags {

std::string make_help(std::span<const CommandInfo> commands);

std::string make_command_help(const CommandInfo& command);

}  // namespace mochi::flags
