#include "cli/inspect.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flag_names.h"
#include "cli/generate_options.h"
#include "cli/terminal.h"
#include "flags/usage_error.h"
#include "mochi/inspect.h"

namespace mochi::cli {
namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr const char* kPathHelp =
    "a model folder, a .safetensors file (LoRAs, too), a .gguf file, an index of shards or a "
    "folder with a LoRA of PEFT's";

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
  const bool lacks_encoder = report.missing_parts.contains(ModelPart::kVideoEncoder);
  print_line("not found: {}{}", fmt::join(report.not_found, ", "),
             lacks_encoder ? " (only 'mochi encode' needs the video encoder)" : "");
  if (folder.empty()) return;
  std::set<ModelPart> parts = report.missing_parts;
  if (parts.size() > 1) parts.erase(ModelPart::kVideoEncoder);
  print_line("to download it: {}", download_command(parts, folder.string()));
}

void print_report(const InspectReport& report, const std::filesystem::path& path,
                  bool lists_tensors) {
  if (report.has_config_file) print_line("sizes from config.json");
  for (const ComponentReport& component : report.components) print_component(component);
  if (!report.tokenizer.empty()) {
    print_line("tokenizer");
    print_line("  file: {}", report.tokenizer);
  }
  if (report.lora) print_lora(*report.lora);
  if (report.components.empty() && report.problems.empty() && !report.lora) {
    print_line("no network of a Mochi model; {} tensors", report.tensors.size());
  }
  for (const std::string& note : report.notes) print_line("{}", note);
  if (!report.not_found.empty()) print_missing(report, path);
  if (!lists_tensors) return;
  for (const StoredTensor& tensor : report.tensors) {
    print_line("{} {} [{}]", tensor.name, tensor.dtype, fmt::join(tensor.sizes, ", "));
  }
}

// Inspects paths one after the other and collects what is wrong with them.
class Inspection {
 public:
  explicit Inspection(const InspectOptions& options) : options_(options) {}

  void run() {
    if (has_any(options_.parts)) {
      const std::filesystem::path folder =
          options_.paths.empty() ? std::filesystem::path() : options_.paths.front();
      add(inspect_model(folder, options_.parts), folder);
    } else {
      for (const std::filesystem::path& path : options_.paths) add(path);
    }
  }

  const std::vector<std::string>& problems() const { return problems_; }

 private:
  void add(const std::filesystem::path& path) {
    InspectReport report;
    try {
      report = inspect_model(path);
    } catch (const std::exception& error) {
      problems_.push_back(describe_exception(error));
      return;
    }
    if (options_.paths.size() > 1) print_line("{}:", path.string());
    add(report, path);
  }

  void add(const InspectReport& report, const std::filesystem::path& path) {
    print_report(report, path, options_.lists_tensors);
    problems_.insert(problems_.end(), report.problems.begin(), report.problems.end());
    for (const ComponentReport& component : report.components) {
      if (component.is_complete()) continue;
      problems_.push_back(fmt::format("'{}': the {} is incomplete",
                                      path.empty() ? component.files.front() : path.string(),
                                      component.name));
    }
  }

  const InspectOptions& options_;
  std::vector<std::string> problems_;
};

void check_inspect_options(const InspectOptions& options) {
  if (options.paths.size() > 1 && has_any(options.parts)) {
    throw flags::UsageError(
        "--dit, --text-encoder, --vae and --tokenizer replace parts of one model folder: wanted at "
        "most one PATH");
  }
  if (options.paths.empty() && !has_any(options.parts)) {
    throw flags::UsageError(fmt::format("PATH: is required: {}", kPathHelp));
  }
}

}  // namespace

void add_inspect_flags(CLI::App& command, InspectOptions& options) {
  command.add_option("path", options.paths, kPathHelp)->type_name("PATH");
  add_path_flags(command, options.parts);
  command.add_flag("--tensors", options.lists_tensors, "list every tensor");
  command.callback([&options] { check_inspect_options(options); });
}

void run_inspect(const InspectOptions& options) {
  Inspection inspection(options);
  inspection.run();
  const std::vector<std::string>& problems = inspection.problems();
  if (problems.empty()) return;
  for (std::size_t i = 0; i + 1 < problems.size(); ++i) tell("mochi: {}", problems[i]);
  fail("{}", problems.back());
}

}  // namespace mochi::cli
