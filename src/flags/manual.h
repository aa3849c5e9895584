// The manual of the command line, made from the flags' own descriptions.
#pragma once

#include <string>
#include <vector>

#include "flags/flag_table.h"

namespace mochi::flags {

inline constexpr const char* kSummary = "make videos from prompts with Mochi models";

// A page for man(1), in the man macros of roff.
std::string make_man_page(const std::vector<CommandInfo>& commands, const std::string& version);

// docs/command-line.md.
std::string make_markdown(const std::vector<CommandInfo>& commands);

}  // namespace mochi::flags
