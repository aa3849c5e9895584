#include "cli/manual.h"

#include <fmt/format.h>

#include "mochi/mochi.h"

namespace mochi::cli {
namespace {

constexpr const char* kSummary = "make videos from prompts with Mochi models";

constexpr const char* kAboutFlags =
    "Flags may be spelled with underscores, as the reference's command line does: --num_frames is "
    "--num-frames.";

constexpr const char* kAboutExit =
    "0 when all went well; 1 on errors; 2 when the command line is at fault; 128 + n when signal n "
    "came (130 for Ctrl-C). Errors are one line on the standard error output. Outputs appear whole "
    "or not at all.";

// "--out FILE", "VIDEO", "--quiet".
std::string synopsis_of(const FlagInfo& flag) {
  if (flag.is_positional || flag.value.empty()) return flag.name;
  return flag.name + " " + flag.value;
}

std::string help_of(const FlagInfo& flag) {
  if (flag.default_text.empty()) return flag.help;
  return fmt::format("{} (default: {})", flag.help, flag.default_text);
}

std::string usage_of(const CommandInfo& command) {
  std::string usage = "mochi " + command.name;
  bool has_flags = false;
  for (const FlagInfo& flag : command.flags) {
    if (flag.is_positional) usage += " " + flag.name;
    has_flags = has_flags || !flag.is_positional;
  }
  return has_flags ? usage + " [flags]" : usage;
}

// Text that roff shall take as it is.
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
