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
#include <vector>

#include "base/nearest.h"
#include "cli/generate.h"
#include "cli/inspect.h"
#include "cli/interrupt.h"
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

int run(int argc, char** argv) {
  CLI::App app("Text to video with Mochi models.", "mochi");
  app.require_subcommand(1);
  app.get_formatter()->column_width(26);
  app.set_version_flag("--version", fmt::format("mochi {}", version()));
  GenerateOptions generate_options;
  CLI::App* generate = app.add_subcommand("generate", "make a video from a prompt");
  add_generate_flags(*generate, generate_options);
  InspectOptions inspect_options;
  CLI::App* inspect = app.add_subcommand("inspect", "say what is in a model folder or file");
  add_inspect_flags(*inspect, inspect_options);
  CLI::App* print_version = app.add_subcommand("version", "print the version");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    throw UsageError(describe_extras(app));
  } catch (const CLI::RequiredError&) {
    if (!app.get_subcommands().empty()) throw;
    // Which would hide that the word given is no command at all.
    throw UsageError(argc > 1 ? describe_extras(app) : "no command given; see 'mochi --help'");
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw UsageError(error.what());
  }
  if (generate->parsed()) run_generate(std::move(generate_options));
  if (inspect->parsed()) run_inspect(inspect_options);
  if (print_version->parsed()) fmt::print("mochi {}\n", version());
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
