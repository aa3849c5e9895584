// The engine's errors in the words of the command line.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "mochi/error.h"

namespace mochi::cli {

// "num_steps" → "--num-steps", and "precision" → "--dtype".
std::string to_flag(std::string_view field);

// Likewise if any command declares that flag; else the field itself.
std::string flag_of(std::string_view field);

// The error's line: with the flag in place of a refused field, and with the flags that would need
// less memory after an OutOfMemory's facts.
std::string describe_error(const Error& error);

// Likewise of any exception, in the program's own words.
std::string describe_exception(const std::exception& error);

}  // namespace mochi::cli
