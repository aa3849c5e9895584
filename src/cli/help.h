// The texts of `mochi --help` and `mochi COMMAND --help`.
#pragma once

#include <span>
#include <string>

#include "cli/flag_table.h"

namespace mochi::cli {

std::string make_help(std::span<const CommandInfo> commands);

std::string make_command_help(const CommandInfo& command);

}  // namespace mochi::cli
