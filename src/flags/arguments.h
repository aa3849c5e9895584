// The arguments of the program, made ready for the parser: values are taken literally, and only
// flag names are rewritten.
#pragma once

#include <string>
#include <vector>

#include "flags/cli11_fwd.h"

namespace mochi::flags {

// Normalises `args`, which excludes the program's name. In the result, flag names have dashes
// instead of underscores; each value is a separate argument, so that "--width=64" and "--width 64"
// are alike and "--negative-prompt=" has an empty value; numbers have one form; and only the last
// of repeated flags remains, unless the flag collects its values. Flags that the command does not
// have are kept. Throws UsageError for a missing value and for one that the flag's type does not
// accept.
std::vector<std::string> read_arguments(const CLI::App& app, const std::vector<std::string>& args);

// Returns one line about arguments that the app's parser has not accepted.
std::string describe_extras(const CLI::App& app);

// One line about the first required flag or argument of the chosen command that was not given.
std::string describe_missing(const CLI::App& command);

}  // namespace mochi::flags
