#include "flags/shell_command.h"

#include "base/printable.h"

namespace mochi::flags {
namespace {

constexpr std::string_view kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:=+@%";

// $'...', in which a backslash begins an escape.
std::string quote_escaped(std::string_view word) {
  std::string escaped;
  for (const char letter : word) {
    if (letter == '\'' || letter == '\\') escaped += '\\';
    escaped += letter;
  }
  return "$'" + printable(escaped) + "'";
}

}  // namespace

std::string quote(std::string_view word) {
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) {
    return std::string(word);
  }
  // A message that is printed would replace these letters.
  if (printable(word) != word) return quote_escaped(word);
  std::string quoted = "'";
  for (const char letter : word) {
    if (letter == '\'') {
      quoted += "'\\''";
    } else {
      quoted += letter;
    }
  }
  return quoted + "'";
}

std::string path_word(const std::filesystem::path& path) {
  const std::string word = path.string();
  return word.starts_with('-') ? "./" + word : word;
}

std::string join_command(std::span<const std::string> words) {
  std::string command;
  for (const std::string& word : words) {
    if (!command.empty()) command += ' ';
    command += quote(word);
  }
  return command;
}

}  // namespace mochi::flags
