#include "flags/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/nearest.h"

namespace mochi::flags {
namespace {

std::vector<std::string> flags_of(const CommandInfo& command) {
  std::vector<std::string> flags;
  for (const FlagInfo& flag : command.flags) {
    if (!flag.is_positional) flags.push_back(flag.name);
  }
  return flags;
}

bool has_flag(const CommandInfo& command, const std::string& name) {
  return std::ranges::any_of(command.flags, [&name](const FlagInfo& flag) {
    return flag.name == name || std::ranges::find(flag.aliases, name) != flag.aliases.end();
  });
}

// Returns "did you mean ...?" for one command's flags. The other texts of suggest_name() do not
// help if other commands have the flag.
std::string suggest_likely(const std::string& flag, const std::vector<std::string>& known) {
  const std::string suggestion = suggest_name(flag, known);
  return suggestion.starts_with("did you mean") ? suggestion : "";
}

// "'mochi analyze' and 'mochi tune'"; empty if no command has the flag.
std::string owners_of(std::span<const CommandInfo> commands, const std::string& flag) {
  std::vector<std::string> owners;
  for (const CommandInfo& command : commands) {
    if (has_flag(command, flag)) owners.push_back(fmt::format("'mochi {}'", command.name));
  }
  constexpr std::size_t kMostNamed = 3;
  if (owners.size() > kMostNamed) return fmt::format("{} commands", owners.size());
  return fmt::format("{}", fmt::join(owners, " and "));
}

}  // namespace

std::string describe_unknown_flag(std::span<const CommandInfo> commands, const std::string& command,
                                  const std::string& flag) {
  const std::string owners = owners_of(commands, flag);
  const auto own = std::ranges::find(commands, command, &CommandInfo::name);
  if (own == commands.end()) {
    if (owners.empty()) {
      const std::string likely = suggest_likely(flag, {"--help", "--version"});
      return fmt::format("unknown flag '{}'{}", flag,
                         likely.empty() ? "; see 'mochi --help'" : ", " + likely);
    }
    return fmt::format("'{}' is a flag of {}: write it after the command", flag, owners);
  }
  std::vector<std::string> known = flags_of(*own);
  const bool takes_flags = !known.empty();
  known.emplace_back("--help");
  const std::string likely = suggest_likely(flag, known);
  if (!likely.empty()) return fmt::format("unknown flag '{}', {}", flag, likely);
  if (!takes_flags) {
    return fmt::format("unknown flag '{}': 'mochi {}' takes no flags", flag, command);
  }
  if (!owners.empty()) {
    return fmt::format("unknown flag '{}': it is a flag of {}, not of 'mochi {}'", flag, owners,
                       command);
  }
  return fmt::format("unknown flag '{}'; see 'mochi {} --help'", flag, command);
}

std::string describe_unknown_command(std::span<const CommandInfo> commands,
                                     const std::string& word) {
  std::vector<std::string> known;
  for (const CommandInfo& command : commands) known.push_back(command.name);
  return fmt::format("unknown command '{}', {}", word, suggest_name(word, known));
}

}  // namespace mochi::flags
