// The program `mochi`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/nearest.h"
#include "cli/analyze.h"
#include "cli/app.h"
#include "cli/bench.h"
#include "cli/completion.h"
#include "cli/flag_names.h"
#include "cli/flag_table.h"
#include "cli/generate.h"
#include "cli/interrupt.h"
#include "cli/manual.h"
#include "cli/tune/tune.h"
#include "cli/usage_error.h"
#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitSignalBase = 128;

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string describe_unknown_flag(const CLI::App& app, const CLI::App& command,
                                  const std::string& flag) {
  for (const CLI::App* other : app.get_subcommands(nullptr)) {
    const std::vector<std::string> flags = flags_of(*other);
    if (std::ranges::find(flags, flag) != flags.end()) {
      return fmt::format("flag '{}' belongs to the command '{}' and stands behind it", flag,
                         other->get_name());
    }
  }
  return fmt::format("unknown flag '{}', {}", flag, suggest_name(flag, flags_of(command)));
}

// What is said about arguments that nothing has asked for.
std::string describe_extras(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  std::vector<std::string> extras = command.remaining();
  if (extras.empty()) extras = app.remaining();
  if (extras.empty()) return "too many arguments";
  for (const std::string& extra : extras) {
    if (!extra.starts_with("-")) continue;
    return describe_unknown_flag(app, command, extra.substr(0, extra.find('=')));
  }
  if (chosen.empty()) {
    std::vector<std::string> known;
    for (const CLI::App* subcommand : app.get_subcommands(nullptr)) {
      known.push_back(subcommand->get_name());
    }
    return fmt::format("unknown command '{}', {}", extras.front(),
                       suggest_name(extras.front(), known));
  }
  return fmt::format("unexpected argument '{}'", extras.front());
}

// "--num_frames=13" → "--num-frames=13"; what stands behind "--" is no flag.
std::vector<std::string> normalise_flags(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  for (std::string& arg : args) {
    if (arg == "--") break;
    if (!arg.starts_with("--")) continue;
    const std::size_t end = std::min(arg.find('='), arg.size());
    std::replace(arg.begin(), arg.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  }
  return args;
}

void run_command(const CLI::App& app, Commands& commands) {
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "generate") run_generate(commands.generate);
  if (name == "decode") run_generate(commands.decode);
  if (name == "encode") run_encode(std::move(commands.encode));
  if (name == "inspect") run_inspect(commands.inspect);
  if (name == "compare") run_compare(commands.compare);
  if (name == "analyze") run_analyze(commands.analyze);
  if (name == "tune") run_tune(commands.tune);
  if (name == "bench") run_bench(commands.bench);
  if (name == "version") fmt::print("mochi {}\n", version());
  if (name == "completion") {
    const bool is_bash = commands.shell == "bash";
    fmt::print("{}", is_bash ? make_bash_completion(list_commands(app))
                             : make_zsh_completion(list_commands(app)));
  }
  if (name == "manual") {
    const bool is_man = commands.manual_form == "man";
    fmt::print("{}",
               is_man ? make_man_page(list_commands(app)) : make_markdown(list_commands(app)));
  }
}

// Without CLI11's empty lines between groups, and without the flag that shows this, so that it fits
// on a screen.
void print_help(const CLI::App& app) {
  std::string help = app.help();
  if (const std::size_t begin = help.find("  -h,--help"); begin != std::string::npos) {
    help.erase(begin, help.find('\n', begin) + 1 - begin);
  }
  constexpr std::string_view kEmptyGroup = "Options:\n\n";
  if (const std::size_t begin = help.find(kEmptyGroup); begin != std::string::npos) {
    help.erase(begin, kEmptyGroup.size());
  }
  for (std::size_t at = help.find("\n\n"); at != std::string::npos; at = help.find("\n\n", at)) {
    help.erase(at, 1);
  }
  fmt::print("{}", help);
}

int run(int argc, char** argv) {
  Commands commands;
  const std::unique_ptr<CLI::App> app = make_app(commands);
  try {
    std::vector<std::string> args = normalise_flags(argc, argv);
    std::ranges::reverse(args);  // as CLI11 wants them
    app->parse(args);
  } catch (const CLI::CallForHelp&) {
    print_help(*app);
    return 0;
  } catch (const CLI::ExtrasError&) {
    throw UsageError(describe_extras(*app));
  } catch (const CLI::RequiredError&) {
    if (!app->get_subcommands().empty()) throw;
    // Which would hide that the word given is no command at all.
    throw UsageError(argc > 1 ? describe_extras(*app) : "no command given; see 'mochi --help'");
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app->exit(error);  // --version
    throw UsageError(error.what());
  }
  run_command(*app, commands);
  return 0;
}

// A full disk is found when the buffer goes out, which at exit nobody would hear of.
void flush_stdout() {
  if (std::fflush(stdout) != 0) fail("cannot write the output: {}", std::strerror(errno));
}

// Error lines begin with the program's name, as those of other programs in a pipeline do.
int report(const char* message, int exit_code) {
  fmt::print(stderr, "mochi: {}\n", message);
  return exit_code;
}

// Without the library's own words, and with control characters of the name made harmless.
Error describe(const std::filesystem::filesystem_error& error) {
  return Error(fmt::format("'{}': {}", error.path1().string(), error.code().message()));
}

int run_reporting(int argc, char** argv) {
  try {
    const int exit_code = run(argc, argv);
    flush_stdout();
    return exit_code;
  } catch (const std::filesystem::filesystem_error& error) {
    return report(describe(error).what(), kExitError);
  } catch (const std::exception& error) {
    // Whatever else went wrong then (ffmpeg hears Ctrl-C, too) came of it.
    if (const int signal = interrupt_signal())
      return report("interrupted", kExitSignalBase + signal);
    if (dynamic_cast<const UsageError*>(&error)) return report(error.what(), kExitUsage);
    if (const auto* ours = dynamic_cast<const Error*>(&error)) {
      return report(describe_error(*ours).c_str(), kExitError);
    }
    if (dynamic_cast<const CLI::ParseError*>(&error)) return report(error.what(), kExitUsage);
    if (dynamic_cast<const std::bad_alloc*>(&error)) return report("out of memory", kExitError);
    return report(error.what(), kExitError);
  }
}

}  // namespace
}  // namespace mochi::cli

int main(int argc, char** argv) {
  mochi::cli::install_interrupt_handlers();
  return mochi::cli::run_reporting(argc, argv);
}
