// Completion scripts for shells, made from the commands and flags.
#pragma once

#include <string>
#include <vector>

#include "flags/flag_table.h"

namespace mochi::flags {

std::string make_bash_completion(const std::vector<CommandInfo>& commands);
std::string make_zsh_completion(const std::vector<CommandInfo>& commands);

}  // namespace mochi::flags
