// The arguments of the program, made ready for the parser: values are taken literally, and only
// flag names are rewritten.
#pragma once

#include <string>
#include <vector>

#include "cli/cli_fwd.h"

namespace mochi::cli {

// `args` without the program's name. In the result flag names have dashes for underscores, a value
// is an argument of its own ("--width=64" and "--width 64" are alike, and "--negative-prompt=" has
// an empty value), numbers have one form, and of a flag that is given twice the last one is left,
// unless it collects its values. Flags that the command does not have are left for the parser.
// Throws UsageError for a missing value and for one that the flag's type does not accept.
std::vector<std::string> read_arguments(const CLI::App& app, const std::vector<std::string>& args);

// One line about arguments that the app's parser has not taken.
std::string describe_extras(const CLI::App& app);

// One line about the first required flag or argument of the chosen command that was not given.
std::string describe_missing(const CLI::App& command);

}  // namespace mochi::cli
