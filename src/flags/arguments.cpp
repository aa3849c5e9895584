#include "flags/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>

#include "flags/flag_table.h"
#include "flags/flag_value.h"
#include "flags/suggestion.h"
#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

using Args = std::vector<std::string>;

// The arguments of one command, or those in front of all commands.
class Reader {
 public:
  explicit Reader(const CLI::App& command) : command_(command) {
    for (const CLI::Option* option : command.get_options()) {
      if (option->get_positional()) positionals_.push_back(option);
    }
  }

  // Reads args[at] and the values that belong to it; returns the index after them.
  std::size_t read(const Args& args, std::size_t at);

  // In the order of the command line.
  Args result() const {
    Args joined;
    for (const Args& given : given_) joined.insert(joined.end(), given.begin(), given.end());
    return joined;
  }

 private:
  std::size_t read_flag(const Args& args, std::size_t at);
  void read_positional(const std::string& value);
  void read_behind_dashes(const std::string& value);
  void put_flag(const CLI::Option& option, Args given);

  const CLI::App& command_;
  std::vector<const CLI::Option*> positionals_;
  std::size_t num_positionals_ = 0;
  std::vector<Args> given_;                          // a flag with its value, or an argument
  std::map<const CLI::Option*, std::size_t> index_;  // in given_, where the flag was seen last
};

std::size_t Reader::read(const Args& args, std::size_t at) {
  const std::string& arg = args[at];
  if (arg == "--") {
    given_.push_back({arg});
    for (++at; at < args.size(); ++at) read_behind_dashes(args[at]);
    return at;
  }
  if (arg.starts_with("--")) return read_flag(args, at);
  if (arg.starts_with("-") && arg.size() > 1) {
    given_.push_back({arg});
  } else {
    read_positional(arg);
  }
  return at + 1;
}

std::size_t Reader::read_flag(const Args& args, std::size_t at) {
  const std::size_t equals = args[at].find('=');
  std::string name = args[at].substr(0, equals);
  std::ranges::replace(name, '_', '-');
  std::optional<std::string> value;
  if (equals != std::string::npos) value = args[at].substr(equals + 1);
  const CLI::Option* option = command_.get_option_no_throw(name);
  if (option == nullptr) {
    given_.push_back({value ? name + "=" + *value : name});
    return at + 1;
  }
  const std::string type = option->get_type_name();
  if (option->get_expected_max() == 0) {
    if (value) throw UsageError(fmt::format("{}: takes no value, found '{}'", name, *value));
    put_flag(*option, {name});
    return at + 1;
  }
  if (option->get_expected_min() == 0) {  // its value is optional
    if (value) value = check_value(name, type, *value);
    put_flag(*option, {value ? name + "=" + *value : name});
    return at + 1;
  }
  if (!value) {
    if (++at == args.size()) {
      throw UsageError(fmt::format("{}: wanted a value ({}), found none", name, type));
    }
    value = args[at];
  }
  put_flag(*option, {name, check_value(name, type, *value)});
  return at + 1;
}

void Reader::read_positional(const std::string& value) {
  if (positionals_.empty()) {
    given_.push_back({value});
    return;
  }
  const std::size_t last = positionals_.size() - 1;
  const FlagInfo info = describe_flag(*positionals_[std::min(num_positionals_++, last)]);
  given_.push_back({check_value(info.name, info.value, value)});
}

// The parser would take one too many for a flag.
void Reader::read_behind_dashes(const std::string& value) {
  const bool has_room = num_positionals_ < positionals_.size() ||
                        (!positionals_.empty() && positionals_.back()->get_expected_max() > 1);
  if (!has_room) {
    throw UsageError(fmt::format("unexpected argument '{}': after '--' nothing is a flag", value));
  }
  read_positional(value);
}

void Reader::put_flag(const CLI::Option& option, Args given) {
  const bool collects = option.get_expected_max() > 1 && option.get_delimiter() == '\0';
  if (const auto earlier = index_.find(&option); earlier != index_.end() && !collects) {
    given_[earlier->second].clear();
  }
  index_[&option] = given_.size();
  given_.push_back(std::move(given));
}

// The arguments that the app's parser left over, in order, and the command they were meant for.
struct Extras {
  Args args;
  std::string command;  // empty: written before any command
};

Extras find_extras(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) {
    if (!command->remaining().empty()) return {command->remaining(), command->get_name()};
  }
  return {app.remaining(), ""};
}

}  // namespace

std::vector<std::string> read_arguments(const CLI::App& app, const std::vector<std::string>& args) {
  Reader before(app);
  std::size_t at = 0;
  while (at < args.size() && args[at].starts_with("-")) at = before.read(args, at);
  Args result = before.result();
  if (at == args.size()) return result;
  const auto commands = app.get_subcommands(nullptr);
  const auto found =
      std::ranges::find(commands, args[at], [](const auto* it) { return it->get_name(); });
  result.push_back(args[at++]);
  if (found == commands.end()) {
    result.insert(result.end(), args.begin() + static_cast<std::ptrdiff_t>(at), args.end());
    return result;
  }
  Reader reader(**found);
  while (at < args.size()) at = reader.read(args, at);
  const Args rest = reader.result();
  result.insert(result.end(), rest.begin(), rest.end());
  return result;
}

std::string describe_extras(const CLI::App& app) {
  const auto [extras, command] = find_extras(app);
  if (extras.empty()) return "too many arguments";
  const std::vector<CommandInfo> commands = list_commands(app);
  for (const std::string& extra : extras) {
    if (!extra.starts_with("-")) continue;
    return describe_unknown_flag(commands, command, extra.substr(0, extra.find('=')));
  }
  return command.empty() ? describe_unknown_command(commands, extras.front())
                         : fmt::format("unexpected argument '{}'", extras.front());
}

std::string describe_missing(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_required() || option->count() > 0) continue;
    const FlagInfo flag = describe_flag(*option);
    return fmt::format("{}: is required: {}", flag.name, help_of(flag));
  }
  return fmt::format("an argument is missing; see 'mochi {} --help'", command.get_name());
}

}  // namespace mochi::flags
