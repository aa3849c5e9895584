#include "flags/help.h"

#include <fmt/format.h>

#include "flags/manual.h"

namespace mochi::flags {
namespace {

// Longer names get a separate line.
std::string make_row(const std::string& name, const std::string& help) {
  constexpr std::size_t kNameWidth = 43;
  if (name.size() < kNameWidth) return fmt::format("  {:<{}}{}\n", name, kNameWidth, help);
  return fmt::format("  {}\n  {:<{}}{}\n", name, "", kNameWidth, help);
}

}  // namespace

std::string make_help(std::span<const CommandInfo> commands) {
  std::string help = fmt::format("mochi: {}\nUsage: mochi COMMAND [flags]\n", kSummary);
  help += "Commands:\n";
  for (const CommandInfo& command : commands) help += make_row(command.name, command.help);
  help += "Flags:\n" + make_row("--help", "show this, or a command's flags: mochi generate --help");
  return help + make_row("--version", "print the version");
}

std::string make_command_help(const CommandInfo& command) {
  std::string help = fmt::format("{}\nUsage: {}\n", command.help, usage_of(command));
  std::string group;
  for (const FlagInfo& flag : command.flags) {
    if (flag.group != group) help += flag.group + ":\n";
    group = flag.group;
    help += make_row(synopsis_of(flag), help_of(flag));
  }
  if (!command.examples.empty()) help += "Examples:\n" + command.examples + "\n";
  return help;
}

}  // namespace mochi::flags
