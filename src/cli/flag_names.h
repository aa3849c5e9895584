// The engine's errors in the words of the command line.
#pragma once

#include <exception>
#include <set>
#include <string>
#include <string_view>

#include "mochi/error.h"

namespace mochi::cli {

// "num_steps" → "--num-steps", and "precision" → "--dtype".
std::string to_flag(std::string_view field);

// Returns the flag of a field if any command declares that flag; else the field itself.
std::string flag_of(std::string_view field);

// Returns the command that downloads parts of Mochi 1 into a model folder: only the small ones if
// no others are missing. Without parts, everything.
std::string download_command(const std::set<ModelPart>& parts, const std::string& model_folder);

// Returns the error's line, which names the flag of a refused field after an OutOfMemory the flags
// that need less memory, and after a ModelMissing the command that downloads a model.
std::string describe_error(const Error& error);

// Returns the line of any exception, in the program's own words.
std::string describe_exception(const std::exception& error);

}  // namespace mochi::cli
