#include "cli/request_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>

#include "cli/flag_names.h"
#include "cli/terminal.h"
#include "flags/usage_error.h"
#include "job/field_value.h"

namespace mochi::cli {
namespace {

using job::Field;
using job::Offer;
using job::Request;

void set_field(Request& request, const std::string& field, const std::string& text) {
  try {
    job::set_from_text(request, field, text);
  } catch (const InvalidRequest& error) {
    throw flags::UsageError(fmt::format("{}: {}", to_flag(field), error.problem()));
  }
}

CLI::Option* add_flag(CLI::App& command, Request& request, const Field& field,
                      std::string_view help) {
  const std::string name(field.name);
  const char* group =
      field.offer == Offer::kPlayback ? "Files and messages" : "Content and sampling";
  if (field.value.empty()) {
    return command
        .add_flag_callback(
            to_flag(name), [&request, name] { set_field(request, name, "true"); },
            std::string(help))
        ->group(group);
  }
  return command
      .add_option_function<std::string>(
          to_flag(name),
          [&request, name](const std::string& text) { set_field(request, name, text); },
          std::string(help))
      ->type_name(std::string(field.value))
      ->group(group);
}

}  // namespace

Flags add_request_flags(CLI::App& command, Request& request, std::initializer_list<Offer> offers) {
  Flags flags;
  job::visit_request(request, [&](const Field& field, auto& /*value*/, auto /*target*/) {
    if (std::ranges::find(offers, field.offer) == offers.end()) return;
    flags.push_back(add_flag(command, request, field, field.help));
  });
  return flags;
}

CLI::Option* add_field_flag(CLI::App& command, Request& request, std::string_view name,
                            std::string_view help) {
  CLI::Option* flag = nullptr;
  job::visit_request(request, [&](const Field& field, auto& /*value*/, auto /*target*/) {
    if (field.name == name)
      flag = add_flag(command, request, field, help.empty() ? field.help : help);
  });
  return flag;
}

void RequestWarnings::tell(const job::Request& given, const job::Resolved& resolved) {
  if (is_quiet_) return;
  for (const job::Overruled& field : resolved.overruled) {
    tell_once(
        fmt::format("warning: {} has no effect with {}", flag_of(field.field), flag_of(field.by)));
  }
  for (const std::string& warning : resolved.warnings) tell_once("warning: " + warning);
  if (!is_verbose_ || resolved.ignored_keys.empty() || !given.chipmunk_config) return;
  tell_once(fmt::format("{}: keys without effect here: {}", given.chipmunk_config->string(),
                        fmt::join(resolved.ignored_keys, ", ")));
}

void RequestWarnings::tell_once(const std::string& line) {
  if (told_.insert(line).second) tell_line(line);
}

}  // namespace mochi::cli
