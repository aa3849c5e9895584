#include "cli/inspect.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flag_names.h"
#include "cli/terminal.h"
#include "mochi/inspect.h"

namespace mochi::cli {
namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;

// "12.7 M", "10.0 B".
std::string format_count(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.2f} B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f} M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f} k", value / 1e3);
  return fmt::to_string(count);
}

// Returns a limited number of names of a list, one per line.
void print_names(const char* title, const std::vector<std::string>& names) {
  constexpr std::size_t kMaxShown = 10;
  if (names.empty()) return;
  print_line("  {}: {}", title, names.size());
  const std::size_t num_shown = std::min(names.size(), kMaxShown);
  for (std::size_t i = 0; i < num_shown; ++i) print_line("    {}", names[i]);
  if (names.size() > num_shown) print_line("    ... and {} more", names.size() - num_shown);
}

void print_component(const ComponentReport& component) {
  print_line("{}", component.name);
  print_line("  {}: {}", component.files.size() == 1 ? "file" : "files",
             fmt::join(component.files, ", "));
  print_line("  layout: {}", component.layout);
  for (const auto& [key, value] : component.sizes) print_line("  {}: {}", key, value);
  std::string dtypes;
  for (const auto& [dtype, count] : component.parameters_by_dtype) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", format_count(count), dtype);
  }
  print_line("  parameters: {} in {} tensors ({}), {:.1f} MiB",
             format_count(component.num_parameters), component.num_tensors, dtypes,
             static_cast<double>(component.stored_bytes) / kMebibyte);
  print_names("missing tensors", component.missing);
  print_names("unexpected tensors", component.unexpected);
  print_names("wrong tensors", component.wrong);
}

// "DoRA", or "LoRA (40), difference of biases (8)".
std::string format_kinds(const std::map<std::string, std::int64_t>& num_by_kind) {
  if (num_by_kind.size() == 1) return num_by_kind.begin()->first;
  std::vector<std::string> kinds;
  kinds.reserve(num_by_kind.size());
  for (const auto& [kind, count] : num_by_kind)
    kinds.push_back(fmt::format("{} ({})", kind, count));
  return fmt::format("{}", fmt::join(kinds, ", "));
}

std::string format_alphas(const LoraReport& lora) {
  std::string alphas = fmt::format("{}", fmt::join(lora.alphas, ", "));
  if (lora.has_default_alphas) {
    alphas += alphas.empty() ? "not given: equal to the rank" : ", elsewhere equal to the rank";
  }
  return alphas;
}

void print_lora(const LoraReport& lora) {
  print_line("LoRA");
  print_line("  file: {}", lora.file);
  print_line("  {}: {}", lora.num_by_kind.size() == 1 ? "kind" : "kinds",
             format_kinds(lora.num_by_kind));
  print_line("  spelling: {}", fmt::join(lora.spellings, ", "));
  print_line("  layers: {}", lora.num_layers);
  if (lora.ranks.empty()) {
    print_line("  rank: none, whole matrices");
  } else {
    print_line("  {}: {}", lora.ranks.size() == 1 ? "rank" : "ranks", fmt::join(lora.ranks, ", "));
    print_line("  alpha: {}", format_alphas(lora));
  }
  print_line("  parameters: {}, {:.1f} MiB", format_count(lora.num_parameters),
             static_cast<double>(lora.stored_bytes) / kMebibyte);
}

void print_missing(const InspectReport& report, const std::filesystem::path& folder) {
  print_line("not found: {}", fmt::join(report.not_found, ", "));
  std::set<ModelPart> parts = report.missing_parts;
  // Only `mochi encode` needs it.
  if (parts.size() > 1) parts.erase(ModelPart::kVideoEncoder);
  print_line("to download it: {}", download_command(parts, folder.string()));
}

}  // namespace

void add_inspect_flags(CLI::App& command, InspectOptions& options) {
  command
      .add_option(
          "path", options.path,
          "a model folder, a .safetensors file (LoRAs, too), a .gguf file or an index of shards")
      ->type_name("PATH")
      ->required();
  command.add_flag("--tensors", options.lists_tensors, "list every tensor");
}

void run_inspect(const InspectOptions& options) {
  const InspectReport report = inspect_model(options.path);
  if (report.has_config_file) print_line("sizes from config.json");
  for (const ComponentReport& component : report.components) print_component(component);
  if (report.lora) print_lora(*report.lora);
  if (report.components.empty() && !report.lora) {
    print_line("no network of a Mochi model; {} tensors", report.tensors.size());
  }
  for (const std::string& note : report.notes) print_line("{}", note);
  if (!report.not_found.empty()) print_missing(report, options.path);
  if (options.lists_tensors) {
    for (const StoredTensor& tensor : report.tensors) {
      print_line("{} {} [{}]", tensor.name, tensor.dtype, fmt::join(tensor.sizes, ", "));
    }
  }
  const auto incomplete =
      std::ranges::find_if_not(report.components, &ComponentReport::is_complete);
  if (incomplete != report.components.end())
    fail("'{}': the {} is incomplete", options.path.string(), incomplete->name);
}

}  // namespace mochi::cli
