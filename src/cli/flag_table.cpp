#include "cli/flag_table.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

namespace mochi::cli {
namespace {

FlagInfo describe(const CLI::Option& option) {
  FlagInfo flag;
  flag.is_positional = option.get_positional();
  if (flag.is_positional) {
    flag.name = option.get_single_name();
    std::ranges::transform(flag.name, flag.name.begin(),
                           [](unsigned char letter) { return std::toupper(letter); });
  } else {
    flag.name = "--" + option.get_lnames().front();
  }
  if (option.get_expected_max() > 0) flag.value = option.get_type_name();
  flag.help = option.get_description();
  flag.default_text = option.get_default_str();
  flag.group = option.get_group();
  return flag;
}

}  // namespace

std::vector<CommandInfo> list_commands(const CLI::App& app) {
  std::vector<CommandInfo> commands;
  for (const CLI::App* subcommand : app.get_subcommands(nullptr)) {
    CommandInfo command{subcommand->get_name(), subcommand->get_description(), {}};
    for (const CLI::Option* option : subcommand->get_options()) {
      if (option->check_lname("help")) continue;
      command.flags.push_back(describe(*option));
    }
    std::ranges::stable_partition(command.flags, &FlagInfo::is_positional);
    commands.push_back(std::move(command));
  }
  return commands;
}

std::vector<std::string> choices_of(const FlagInfo& flag) {
  if (flag.value.find('|') == std::string::npos) return {};
  return CLI::detail::split(flag.value, '|');
}

}  // namespace mochi::cli
