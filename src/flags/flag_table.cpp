#include "flags/flag_table.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

namespace mochi::flags {
namespace {

// Groups in the order of their first flags, so that each of them is one table.
void sort_by_groups(std::vector<FlagInfo>& flags) {
  std::vector<std::string> groups;
  for (const FlagInfo& flag : flags) {
    if (std::ranges::find(groups, flag.group) == groups.end()) groups.push_back(flag.group);
  }
  std::ranges::stable_sort(flags, {}, [&groups](const FlagInfo& flag) {
    return std::ranges::find(groups, flag.group) - groups.begin();
  });
}

}  // namespace

FlagInfo describe_flag(const CLI::Option& option) {
  FlagInfo flag;
  flag.is_positional = option.get_positional();
  flag.is_required = option.get_required();
  flag.is_repeatable = option.get_expected_max() > 1;
  if (flag.is_positional) {
    flag.name = option.get_single_name();
    std::ranges::transform(flag.name, flag.name.begin(),
                           [](unsigned char letter) { return std::toupper(letter); });
  } else {
    for (const std::string& name : option.get_lnames()) flag.aliases.push_back("--" + name);
    flag.name = flag.aliases.front();
    flag.aliases.erase(flag.aliases.begin());
  }
  if (option.get_expected_max() > 0) flag.value = option.get_type_name();
  flag.help = option.get_description();
  flag.default_text = option.get_default_str();
  // The parser's name for the default group.
  const bool has_group = option.get_group() != "Options";
  flag.group = has_group ? option.get_group() : flag.is_positional ? "Arguments" : "Flags";
  return flag;
}

std::vector<CommandInfo> list_commands(const CLI::App& app) {
  std::vector<CommandInfo> commands;
  for (const CLI::App* subcommand : app.get_subcommands(nullptr)) {
    CommandInfo command{
        subcommand->get_name(), subcommand->get_description(), {}, subcommand->get_footer()};
    for (const CLI::Option* option : subcommand->get_options()) {
      if (option->check_lname("help")) continue;
      command.flags.push_back(describe_flag(*option));
    }
    sort_by_groups(command.flags);
    std::ranges::stable_partition(command.flags, &FlagInfo::is_positional);
    commands.push_back(std::move(command));
  }
  return commands;
}

std::string synopsis_of(const FlagInfo& flag) {
  if (flag.is_positional || flag.value.empty()) return flag.name;
  return flag.name + " " + flag.value;
}

std::string help_of(const FlagInfo& flag) {
  // The synopsis of an argument does not list its choices.
  if (flag.is_positional && !choices_of(flag).empty()) {
    return fmt::format("{}: {}", flag.help, fmt::join(choices_of(flag), ", "));
  }
  if (flag.default_text.empty()) return flag.help;
  return fmt::format("{} (default: {})", flag.help, flag.default_text);
}

std::string usage_of(const CommandInfo& command) {
  std::string usage = "mochi " + command.name;
  bool has_flags = false;
  for (const FlagInfo& flag : command.flags) {
    if (flag.is_positional) {
      const std::string word = flag.is_repeatable ? flag.name + " ..." : flag.name;
      usage += flag.is_required ? " " + flag.name : " [" + word + "]";
    }
    has_flags = has_flags || !flag.is_positional;
  }
  return has_flags ? usage + " [flags]" : usage;
}

std::vector<std::string> choices_of(const FlagInfo& flag) {
  if (flag.value.find('|') == std::string::npos) return {};
  std::vector<std::string> words = CLI::detail::split(flag.value, '|');
  std::erase_if(words, [](const std::string& word) {
    return std::isupper(static_cast<unsigned char>(word.front())) != 0;
  });
  for (std::string& word : words) word = word.substr(0, word.find('['));  // cuda[:N]
  return words;
}

}  // namespace mochi::flags
