#include "cli/download.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <string_view>

#include "base/error.h"
#include "cli/download_display.h"
#include "cli/hub_environment.h"
#include "cli/progress_display.h"
#include "cli/terminal.h"
#include "flags/shell_command.h"
#include "flags/usage_error.h"
#include "hub/download.h"
#include "hub/hub.h"
#include "hub/known_models.h"
#include "hub/plan.h"
#include "hub/target_folder.h"

namespace mochi::cli {
namespace {

using Plan = std::vector<hub::PlannedFile>;

constexpr int kMostConnections = 64;

bool is_repository(const DownloadOptions& options) {
  return hub::looks_like_repository(options.model);
}

void check_options(const DownloadOptions& options) {
  const auto refuse_flag = [](std::string_view flag, std::string_view with) {
    throw flags::UsageError(fmt::format("{}: has no effect with {}", flag, with));
  };
  if (options.num_connections < 1 || options.num_connections > kMostConnections) {
    throw flags::UsageError(fmt::format("--connections: wanted a number from 1 to {}, found {}",
                                        kMostConnections, options.num_connections));
  }
  if (is_repository(options)) {
    if (!options.precision.empty()) refuse_flag("--precision", "OWNER/REPO");
    if (options.with_encoder) refuse_flag("--with-encoder", "OWNER/REPO");
    if (!options.parts.empty()) refuse_flag("--part", "OWNER/REPO");
  } else if (!options.patterns.empty()) {
    refuse_flag("--include", "a known name");
  }
  if (options.lists) {
    if (!options.folder.empty()) refuse_flag("DIR", "--list");
    if (options.is_dry_run) refuse_flag("--dry-run", "--list");
    return;
  }
  if (options.model.empty()) {
    throw flags::UsageError("MODEL: is required; 'mochi download --list' lists the known names");
  }
  if (options.folder.empty()) {
    throw flags::UsageError("DIR: is required: the folder to download into");
  }
}

std::vector<hub::KnownFile> known_files(const DownloadOptions& options) {
  std::set<hub::KnownPart> parts = hub::kCompleteModel;
  if (!options.parts.empty()) parts.clear();
  for (const std::string& name : options.parts) {
    // flags::read_arguments() accepts no other names.
    if (const auto part = hub::parse_known_part(name)) parts.insert(*part);
  }
  if (options.with_encoder) parts.insert(hub::KnownPart::kEncoder);
  return hub::files_of(hub::find_known_model(options.model), options.precision, parts);
}

Plan make_plan(hub::Client& client, const DownloadOptions& options) {
  if (!is_repository(options)) return hub::plan_known_files(client, known_files(options));
  return hub::plan_repository(client, hub::parse_repository(options.model), options.patterns);
}

void print_known_file(const hub::KnownFile& file) {
  const std::string size = file.size == 0 ? "" : fmt::format(" ({})", hub::format_bytes(file.size));
  print_line("  {}{}: {}/{}", file.target, size, file.repository, file.path);
}

void print_known_model(const hub::KnownModel& model) {
  const hub::KnownWeights& usual = model.weights.front();
  const std::string licence = model.licence.empty() ? fmt::format("see https://huggingface.co/{}",
                                                                  usual.transformer.repository)
                                                    : std::string(model.licence);
  print_line("{}: {}; licence: {}", model.name, model.summary, licence);
  for (const hub::KnownFile& file : hub::files_of(model, usual.precision, hub::kCompleteModel)) {
    print_known_file(file);
  }
  for (const hub::KnownWeights& weights : std::span(model.weights).subspan(1)) {
    print_line("  with --precision {}, in place of the first two:", weights.precision);
    print_known_file(weights.transformer);
    print_known_file(weights.text_encoder);
  }
  if (model.encoder.repository.empty()) return;
  print_line("  with --with-encoder:");
  print_known_file(model.encoder);
}

void print_dry_run(hub::Client& client, const DownloadOptions& options) {
  hub::check_target_folder(options.folder);
  const Plan plan = make_plan(client, options);
  const auto files = hub::survey(plan, options.folder, hub::Records(options.folder));
  std::uint64_t num_bytes = 0;
  for (const hub::SurveyedFile& file : files) {
    num_bytes += file.file.size;
    std::string state;
    if (file.state == hub::FileState::kComplete) state = "complete";
    if (file.state == hub::FileState::kUnverified) state = "exists, to be verified";
    if (file.state == hub::FileState::kPartial) {
      state = fmt::format("{} exist", hub::format_bytes(file.num_present));
    }
    print_line("{}: {} from {}/{}{}{}", file.file.target, hub::format_bytes(file.file.size),
               file.file.repository.name, file.file.path, state.empty() ? "" : "; ", state);
  }
  print_line("to download: {} of {}; free space in '{}': {}",
             hub::format_bytes(hub::bytes_to_fetch(files)), hub::format_bytes(num_bytes),
             options.folder.string(), hub::format_bytes(hub::free_space(options.folder)));
  hub::check_free_space(files, options.folder);
}

void print_summary(const Plan& plan, const DownloadOptions& options) {
  std::uint64_t num_bytes = 0;
  for (const hub::PlannedFile& file : plan) num_bytes += file.size;
  tell_summary("{}: {} {}, {}, all complete", options.folder.string(), plan.size(),
               plan.size() == 1 ? "file" : "files", hub::format_bytes(num_bytes));
}

void list_files(hub::Client& client, const DownloadOptions& options) {
  for (const hub::PlannedFile& file : make_plan(client, options)) {
    print_line("{:>16} {}", file.size, file.path);
  }
}

void download(hub::Client& client, const DownloadOptions& options) {
  const hub::TargetFolder target(options.folder);
  const Plan plan = make_plan(client, options);
  hub::download(client, plan, options.folder);
  if (!options.is_quiet) print_summary(plan, options);
}

}  // namespace

void add_download_flags(CLI::App& command, DownloadOptions& options) {
  command.add_option("model", options.model,
                     "a known name, such as mochi-1-preview, or OWNER/REPO[@REVISION]");
  command.add_option("dir", options.folder, "the folder to download into")->type_name("DIR");
  command
      .add_option("--precision", options.precision,
                  "type of the large networks' weights of a known name (default: bf16)")
      ->type_name("bf16|fp8|q8_0|q4_k");
  command.add_flag("--with-encoder", options.with_encoder,
                   "also the VAE encoder, which `mochi encode` needs");
  command
      .add_option("--part", options.parts,
                  "only this part of a known name; may be given several times")
      ->allow_extra_args(false)
      ->type_name("transformer|text-encoder|decoder|encoder|tokenizer");
  command
      .add_option("--include", options.patterns,
                  "only files of OWNER/REPO that match, such as \"*.json\"; may be given several "
                  "times")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  command.add_option("--connections", options.num_connections, "connections at a time")
      ->capture_default_str();
  command.add_flag("--list", options.lists,
                   "list the known names or, with OWNER/REPO, its files; download nothing");
  command.add_flag("--dry-run", options.is_dry_run,
                   "print what would be downloaded, its size and the free space");
  command.add_flag("--quiet", options.is_quiet, "print errors only");
}

void run_download(const DownloadOptions& options) try {
  check_options(options);
  if (options.lists && options.model.empty()) {
    std::ranges::for_each(hub::known_models(), print_known_model);
    return;
  }
  // A wrong name is refused before any request.
  is_repository(options) ? static_cast<void>(hub::parse_repository(options.model))
                         : static_cast<void>(known_files(options));
  check_online();
  hub::Settings settings = read_hub_environment();
  settings.num_connections = options.num_connections;
  DownloadDisplay display(display_style(options.is_quiet));
  hub::Client client(std::move(settings), display);
  if (options.lists) return list_files(client, options);
  if (options.is_dry_run) return print_dry_run(client, options);
  download(client, options);
} catch (const InvalidRequest& error) {
  const std::string name = error.field() == "model" ? "MODEL" : "--" + error.field();
  const std::string remedy =
      error.field() == "precision"
          ? fmt::format("; 'mochi convert IN OUT --to {}' makes it from the bf16 file",
                        options.precision)
          : "";
  throw flags::UsageError(fmt::format("{}: {}{}", name, error.problem(), remedy));
} catch (const Cancelled&) {
  if (!options.is_quiet) tell("to continue: {}", flags::join_command(options.command));
  throw;
}

}  // namespace mochi::cli
