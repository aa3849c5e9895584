#include "cli/manual.h"

#include <fmt/format.h>

#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

constexpr const char* kAboutFlags =
    "A flag may be written with underscores, as on the reference's command line: --num_frames is "
    "--num-frames. The value of a flag is the next argument or follows '=', and is taken "
    "literally: "
    "--negative-prompt= is an empty negative prompt. Numbers are decimal. If a flag is given "
    "twice, "
    "the last one counts, except for --lora-path, which collects its values.";

constexpr const char* kAboutExit =
    "0: success; 1: an error, for instance in a file; 2: a mistake on the command line; 128 + n: "
    "signal n ended the run (130: Ctrl-C). The first signal stops the run cleanly, a second one "
    "ends it at once. An error is one line on standard error. Progress, warnings and the summary "
    "never end a run, even where they cannot be written; a result asked for on standard output "
    "(JSON, a table) that cannot be written is an error. Outputs appear whole or not at all.";

// Text that roff prints as it is.
std::string escape_roff(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '\\') {
      escaped += "\\e";
    } else if (letter == '-') {
      escaped += "\\-";
    } else {
      escaped += letter;
    }
  }
  const bool looks_like_request =
      !escaped.empty() && (escaped.front() == '.' || escaped.front() == '\'');
  return looks_like_request ? "\\&" + escaped : escaped;
}

// Text for a cell of a table.
std::string escape_cell(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '|') escaped += '\\';
    escaped += letter;
  }
  return escaped;
}

}  // namespace

std::string make_man_page(const std::vector<CommandInfo>& commands) {
  std::string page = fmt::format(".TH MOCHI 1 \"\" \"mochi {}\"\n.SH NAME\nmochi \\- {}\n",
                                 version(), escape_roff(kSummary));
  page += ".SH SYNOPSIS\n";
  for (const CommandInfo& command : commands) {
    page += fmt::format(".B {}\n.br\n", escape_roff(usage_of(command)));
  }
  page += fmt::format(".SH DESCRIPTION\n{}\n", escape_roff(kAboutFlags));
  for (const CommandInfo& command : commands) {
    page +=
        fmt::format(".SH MOCHI {}\n{}.\n", escape_roff(command.name), escape_roff(command.help));
    if (!command.examples.empty()) {
      page += fmt::format(".PP\n.nf\n{}\n.fi\n", escape_roff(command.examples));
    }
    std::string group;
    for (const FlagInfo& flag : command.flags) {
      if (flag.group != group) page += fmt::format(".SS {}\n", escape_roff(flag.group));
      group = flag.group;
      page += fmt::format(".TP\n.B {}\n{}\n", escape_roff(synopsis_of(flag)),
                          escape_roff(help_of(flag)));
    }
  }
  page += fmt::format(".SH EXIT STATUS\n{}\n", escape_roff(kAboutExit));
  return page;
}

std::string make_markdown(const std::vector<CommandInfo>& commands) {
  std::string page = fmt::format(
      "# The command line\n\n`mochi`: {}. Made by `mochi manual --format "
      "markdown`.\n\n{}\n",
      kSummary, kAboutFlags);
  for (const CommandInfo& command : commands) {
    page += fmt::format("\n## mochi {}\n{}: `{}`\n", command.name, command.help, usage_of(command));
    if (!command.examples.empty()) page += fmt::format("\n```sh\n{}\n```\n", command.examples);
    std::string group;
    for (const FlagInfo& flag : command.flags) {
      if (flag.group != group) page += fmt::format("\n| {} | |\n| --- | --- |\n", flag.group);
      group = flag.group;
      page += fmt::format("| `{}` | {} |\n", escape_cell(synopsis_of(flag)),
                          escape_cell(help_of(flag)));
    }
  }
  page += fmt::format("\n## Exit status\n{}\n", kAboutExit);
  return page;
}

}  // namespace mochi::cli
