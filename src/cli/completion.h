// Completion scripts for shells, made from the commands and flags.
#pragma once

#include <string>
#include <vector>

#include "cli/flag_table.h"

namespace mochi::cli {

std::string make_bash_completion(const std::vector<CommandInfo>& commands);
std::string make_zsh_completion(const std::vector<CommandInfo>& commands);

}  // namespace mochi::cli
