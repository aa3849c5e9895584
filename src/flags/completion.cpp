#include "flags/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mochi::flags {
namespace {

bool is_path(const FlagInfo& flag) {
  for (const char* kind : {"FILE", "DIR", "PATH"}) {
    if (flag.value.find(kind) != std::string::npos) return true;
  }
  return false;
}

// Inside single quotes of a shell.
std::string quote_text(const std::string& text) {
  std::string quoted;
  for (const char letter : text) {
    if (letter == '\'') {
      quoted += "'\\''";
    } else {
      quoted += letter;
    }
  }
  return quoted;
}

// Text of a specification for zsh's _arguments, whose own marks are kept from being read as such.
std::string quote_spec(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == ':' || letter == '[' || letter == ']' || letter == '\\') escaped += '\\';
    escaped += letter;
  }
  return quote_text(escaped);
}

// Returns the values that may follow a flag: `  generate:--device) words='auto cpu';;`
std::string bash_values(const CommandInfo& command) {
  std::string cases;
  for (const FlagInfo& flag : command.flags) {
    const std::vector<std::string> choices = choices_of(flag);
    const std::string pattern =
        flag.is_positional ? command.name + ":" : command.name + ":" + flag.name;
    if (flag.is_positional && choices.empty()) continue;  // a path: the fallback
    if (flag.value.empty() || is_path(flag)) continue;
    cases += fmt::format("    {}) words='{}' ;;\n", pattern, fmt::join(choices, " "));
  }
  return cases;
}

std::string zsh_action(const FlagInfo& flag) {
  const std::vector<std::string> choices = choices_of(flag);
  if (!choices.empty()) return fmt::format("({})", fmt::join(choices, " "));
  return is_path(flag) ? "_files" : "";
}

std::string zsh_spec(const FlagInfo& flag) {
  if (flag.is_positional) {
    return fmt::format("'1:{}:{}'", quote_spec(flag.help), zsh_action(flag));
  }
  const std::string value =
      flag.value.empty() ? "" : fmt::format(":{}:{}", quote_spec(flag.value), zsh_action(flag));
  return fmt::format("'{}[{}]{}'", flag.name, quote_spec(flag.help), value);
}

}  // namespace

std::string make_bash_completion(const std::vector<CommandInfo>& commands) {
  std::vector<std::string> names;
  std::string flags;
  std::string values;
  for (const CommandInfo& command : commands) {
    names.push_back(command.name);
    std::vector<std::string> of_command{"--help"};
    for (const FlagInfo& flag : command.flags) {
      if (!flag.is_positional) of_command.push_back(flag.name);
    }
    flags += fmt::format("    {}) flags='{}' ;;\n", command.name, fmt::join(of_command, " "));
    values += bash_values(command);
  }
  return fmt::format(R"(# bash completion for mochi
_mochi() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="${{COMP_WORDS[1]}}" flags='' words='' key
  if (( COMP_CWORD == 1 )); then
    mapfile -t COMPREPLY < <(compgen -W '{} --help --version' -- "$current")
    return
  fi
  case "$command" in
{}  esac
  key="$command:"
  [[ "$previous" == --* ]] && key+="$previous"
  case "$key" in
{}    *) words=$'\n' ;;
  esac
  if [[ "$current" == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
  elif [[ "$words" != $'\n' ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}}
complete -F _mochi mochi
)",
                     fmt::join(names, " "), flags, values);
}

std::string make_zsh_completion(const std::vector<CommandInfo>& commands) {
  std::string names;
  std::string cases;
  for (const CommandInfo& command : commands) {
    names += fmt::format("    '{}:{}'\n", command.name, quote_spec(command.help));
    cases += fmt::format("    {})\n      _arguments '--help[print help]'", command.name);
    for (const FlagInfo& flag : command.flags) cases += " \\\n        " + zsh_spec(flag);
    cases += " ;;\n";
  }
  return fmt::format(R"(#compdef mochi
_mochi() {{
  local -a commands
  commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    return
  fi
  local command="${{words[2]}}"
  shift words
  (( CURRENT-- ))
  case "$command" in
{}  esac
}}
_mochi "$@"
)",
                     names, cases);
}

}  // namespace mochi::flags
