// Commands that can be pasted into a shell.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mochi::cli {

// The word as a POSIX shell reads it back: "a b" → "'a b'".
std::string quote(std::string_view word);

// All words quoted where they need it.
std::string join_command(std::span<const std::string> words);

}  // namespace mochi::cli
