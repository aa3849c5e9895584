#include "cli/inspect.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
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

// At most some names of a list, one a line.
void print_names(const char* title, const std::vector<std::string>& names) {
  constexpr std::size_t kMaxShown = 10;
  if (names.empty()) return;
  fmt::print("  {}: {}\n", title, names.size());
  const std::size_t num_shown = std::min(names.size(), kMaxShown);
  for (std::size_t i = 0; i < num_shown; ++i) fmt::print("    {}\n", names[i]);
  if (names.size() > num_shown) fmt::print("    ... and {} more\n", names.size() - num_shown);
}

void print_component(const ComponentReport& component) {
  fmt::print("{}\n", component.name);
  fmt::print("  {}: {}\n", component.files.size() == 1 ? "file" : "files",
             fmt::join(component.files, ", "));
  for (const auto& [key, value] : component.sizes) fmt::print("  {}: {}\n", key, value);
  std::string dtypes;
  for (const auto& [dtype, count] : component.parameters_by_dtype) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", format_count(count), dtype);
  }
  fmt::print("  parameters: {} in {} tensors ({}), {:.1f} MiB\n",
             format_count(component.num_parameters), component.num_tensors, dtypes,
             static_cast<double>(component.stored_bytes) / kMebibyte);
  print_names("missing tensors", component.missing);
  print_names("unexpected tensors", component.unexpected);
  print_names("wrong tensors", component.wrong);
}

void print_lora(const LoraReport& lora) {
  fmt::print("LoRA\n  file: {}\n  layers: {}\n", lora.file, lora.num_layers);
  fmt::print("  {}: {}\n", lora.ranks.size() == 1 ? "rank" : "ranks", fmt::join(lora.ranks, ", "));
  std::string alphas = fmt::format("{}", fmt::join(lora.alphas, ", "));
  if (lora.has_default_alphas) {
    alphas += alphas.empty() ? "not stated, taken as the rank" : ", elsewhere taken as the rank";
  }
  fmt::print("  alpha: {}\n", alphas);
  fmt::print("  parameters: {}, {:.1f} MiB\n", format_count(lora.num_parameters),
             static_cast<double>(lora.stored_bytes) / kMebibyte);
}

}  // namespace

void add_inspect_flags(CLI::App& command, InspectOptions& options) {
  command
      .add_option("path", options.path,
                  "a model folder, .safetensors file (also a LoRA) or index of shards")
      ->type_name("PATH")
      ->required();
  command.add_flag("--tensors", options.lists_tensors, "list every tensor");
}

void run_inspect(const InspectOptions& options) {
  const InspectReport report = inspect_model(options.path);
  if (report.has_config_file) fmt::print("sizes from config.json\n");
  for (const ComponentReport& component : report.components) print_component(component);
  if (report.lora) print_lora(*report.lora);
  if (report.components.empty() && !report.lora) {
    fmt::print("no network of a Mochi model; {} tensors\n", report.tensors.size());
  }
  for (const std::string& note : report.notes) fmt::print("{}\n", note);
  if (!report.not_found.empty()) fmt::print("not found: {}\n", fmt::join(report.not_found, ", "));
  if (options.lists_tensors) {
    for (const StoredTensor& tensor : report.tensors) {
      fmt::print("{} {} [{}]\n", tensor.name, tensor.dtype, fmt::join(tensor.sizes, ", "));
    }
  }
  const auto incomplete =
      std::ranges::find_if_not(report.components, &ComponentReport::is_complete);
  if (incomplete != report.components.end()) fail("the {} is incomplete", incomplete->name);
}

}  // namespace mochi::cli
