// The program `mochi`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "cli/analyze.h"
#include "cli/app.h"
#include "cli/bench.h"
#include "cli/download.h"
#include "cli/flag_names.h"
#include "cli/generate.h"
#include "cli/interrupt.h"
#include "cli/serve.h"
#include "cli/terminal.h"
#include "cli/tune.h"
#include "flags/arguments.h"
#include "flags/completion.h"
#include "flags/flag_table.h"
#include "flags/help.h"
#include "flags/manual.h"
#include "flags/usage_error.h"
#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitSignalBase = 128;

void print_completion(const CLI::App& app, const std::string& shell) {
  const std::vector<flags::CommandInfo> commands = flags::list_commands(app);
  print_result(shell == "bash" ? flags::make_bash_completion(commands)
                               : flags::make_zsh_completion(commands));
}

void print_manual(const CLI::App& app, const std::string& form) {
  const std::vector<flags::CommandInfo> commands = flags::list_commands(app);
  print_result(form == "man" ? flags::make_man_page(commands, version())
                             : flags::make_markdown(commands));
}

void print_help(const CLI::App& app) {
  const std::vector<flags::CommandInfo> commands = flags::list_commands(app);
  const auto chosen = app.get_subcommands();
  if (chosen.empty()) return print_result(flags::make_help(commands));
  print_result(flags::make_command_help(
      *std::ranges::find(commands, chosen.front()->get_name(), &flags::CommandInfo::name)));
}

void print_version() { print_line("mochi {}", version()); }

void run_command(const CLI::App& app, Commands& commands) {
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "generate") run_generate(commands.generate);
  if (name == "serve") run_serve(commands.serve);
  if (name == "decode") run_generate(commands.decode);
  if (name == "encode") run_encode(std::move(commands.encode));
  if (name == "convert") run_convert(commands.convert);
  if (name == "inspect") run_inspect(commands.inspect);
  if (name == "compare") run_compare(commands.compare);
  if (name == "analyze") run_analyze(commands.analyze);
  if (name == "tune") run_tune(commands.tune);
  if (name == "bench") run_bench(commands.bench);
  if (name == "download") run_download(commands.download);
  if (name == "version") print_version();
  if (name == "completion") print_completion(app, commands.shell);
  if (name == "manual") print_manual(app, commands.manual_form);
}

// Returns one line about the refusal of the parser, in this program's words.
std::string describe(const CLI::ParseError& error, const CLI::App& app, bool has_args) {
  const auto chosen = app.get_subcommands();
  const bool is_unknown = !chosen.empty() && !chosen.front()->remaining().empty();
  // A misspelt flag comes before the one that is missing because of that.
  if (is_unknown || dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    return flags::describe_extras(app);
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    if (!chosen.empty()) return flags::describe_missing(*chosen.front());
    return has_args ? flags::describe_extras(app) : "no command given; see 'mochi --help'";
  }
  if (dynamic_cast<const CLI::ValidationError*>(&error) != nullptr) return error.what();
  const std::string command = chosen.empty() ? "" : chosen.front()->get_name() + " ";
  return fmt::format("cannot read the command line; see 'mochi {}--help'", command);
}

// Parses the words of a command line, the program's name first, and calls `run` with the app.
template <typename Run>
void parse(const std::vector<std::string>& command, Commands& commands, const Run& run) {
  const std::vector<std::string> given(command.begin() + 1, command.end());
  const std::unique_ptr<CLI::App> app = make_app(commands);
  std::vector<std::string> args = flags::read_arguments(*app, given);
  std::ranges::reverse(args);  // the order that CLI11 wants
  try {
    app->parse(args);
  } catch (const CLI::CallForHelp&) {
    return print_help(*app);
  } catch (const CLI::CallForVersion&) {
    return print_version();
  } catch (const CLI::ParseError& error) {
    throw flags::UsageError(describe(error, *app, !given.empty()));
  }
  run(*app);
}

// "mochi serve-worker GPU" and the flags of `mochi serve`, as the server starts it.
void run_worker_command(std::vector<std::string> command) {
  const std::string gpu = command[2];
  command[1] = "serve";
  command.erase(command.begin() + 2);
  Commands commands;
  parse(command, commands, [&](const CLI::App& /*app*/) { run_serve_worker(commands.serve, gpu); });
}

void run(const std::vector<std::string>& command) {
  if (command.size() > 2 && command[1] == kWorkerCommand) return run_worker_command(command);
  Commands commands;
  commands.generate.run.command = command;
  commands.decode.run.command = command;
  commands.tune.command = command;
  commands.download.command = command;
  commands.serve.command = command;
  parse(command, commands, [&](const CLI::App& app) { run_command(app, commands); });
}

// Error lines begin with the program's name, as those of other programs in a pipeline do.
int report(const char* message, int exit_code) noexcept {
  tell("mochi: {}", message);
  return exit_code;
}

// The exit status for the exception that is being handled.
int report_exception() {
  try {
    throw;
  } catch (const flags::UsageError& error) {
    return report(error.what(), kExitUsage);
  } catch (const InvalidRequest& error) {
    const bool is_flag = flag_of(error.field()) != error.field();  // else a file is at fault
    return report(describe_error(error).c_str(), is_flag ? kExitUsage : kExitError);
  } catch (const std::exception& error) {
    return report(describe_exception(error).c_str(), kExitError);
  } catch (...) {
    return report("an unknown error has ended the run", kExitError);
  }
}

int run_reporting(int argc, char** argv) noexcept {
  try {
    run(argc > 0 ? std::vector<std::string>(argv, argv + argc) : std::vector{std::string("mochi")});
    return 0;
  } catch (...) {
    // A signal also ends the child programs; errors that follow from that are not reported.
    if (const int signal = interrupt_signal(); signal != 0) {
      return report("interrupted", kExitSignalBase + signal);
    }
    try {
      return report_exception();
    } catch (...) {  // memory is exhausted even for the words
      return report("out of memory", kExitError);
    }
  }
}

}  // namespace
}  // namespace mochi::cli

int main(int argc, char** argv) {
  mochi::cli::secure_standard_streams();
  mochi::cli::install_interrupt_handlers();
  return mochi::cli::run_reporting(argc, argv);
}
