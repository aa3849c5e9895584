// Commands that can be pasted into a shell.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mochi::flags {

// The word as a shell reads it back: "a b" → "'a b'". What cannot be printed needs $'...', which
// Bash and Zsh know.
std::string quote(std::string_view word);

// The path as an argument that is not taken for a flag: "-a" → "./-a".
std::string path_word(const std::filesystem::path& path);

// All words quoted where they need it.
std::string join_command(std::span<const std::string> words);

}  // namespace mochi::flags
