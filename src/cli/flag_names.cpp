#include "cli/flag_names.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/app.h"
#include "flags/shell_command.h"
#include "hub/known_models.h"

namespace mochi::cli {
namespace {

using Names = std::pair<std::string_view, std::string_view>;

// Fields whose flags have other names.
constexpr std::array kOtherNames{
    Names{"initial_noise", "noise"},      Names{"loras", "lora-path"},
    Names{"num_threads", "threads"},      Names{"precision", "dtype"},
    Names{"sparsity", "chipmunk-config"}, Names{"vram_limit_bytes", "vram-limit"},
};

bool is_declared(const std::string& flag) {
  Commands commands;
  const std::unique_ptr<CLI::App> app = make_app(commands);
  return std::ranges::any_of(app->get_subcommands(nullptr), [&flag](const CLI::App* command) {
    return command->get_option_no_throw(flag) != nullptr;
  });
}

std::string describe_remedies(const std::set<Remedy>& remedies) {
  std::string text;
  if (remedies.contains(Remedy::kSmallerVideo)) text += "; a smaller video needs less";
  if (remedies.contains(Remedy::kCpuOffload)) text += ", and so does --cpu-offload";
  if (remedies.contains(Remedy::kBf16)) text += ", and so does --dtype bf16";
  if (remedies.contains(Remedy::kRaiseVramLimit)) text += "; --vram-limit may be too low";
  return text;
}

// Returns the part's name in `mochi download`.
std::string_view name_in_download(ModelPart part) {
  switch (part) {
    case ModelPart::kTextEncoder:
      return hub::name_of(hub::KnownPart::kTextEncoder);
    case ModelPart::kTransformer:
      return hub::name_of(hub::KnownPart::kTransformer);
    case ModelPart::kVideoDecoder:
      return hub::name_of(hub::KnownPart::kDecoder);
    case ModelPart::kVideoEncoder:
      return hub::name_of(hub::KnownPart::kEncoder);
    case ModelPart::kTokenizer:
      break;
  }
  return hub::name_of(hub::KnownPart::kTokenizer);
}

}  // namespace

std::string to_flag(std::string_view field) {
  const auto* const other = std::ranges::find(kOtherNames, field, &Names::first);
  std::string flag = "--";
  flag += other != kOtherNames.end() ? other->second : field;
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string flag_of(std::string_view field) {
  std::string flag = to_flag(field);
  if (!is_declared(flag)) flag = field;
  return flag;
}

std::string download_command(const std::set<ModelPart>& parts, const std::string& model_folder) {
  std::vector<std::string> words{"mochi", "download", "mochi-1-preview",
                                 flags::path_word(model_folder)};
  const std::set<ModelPart> complete{ModelPart::kTransformer, ModelPart::kTextEncoder,
                                     ModelPart::kVideoDecoder, ModelPart::kTokenizer};
  const bool is_complete = std::ranges::includes(parts, complete) || parts.empty();
  for (const ModelPart part : parts) {
    if (!is_complete) words.insert(words.end(), {"--part", std::string(name_in_download(part))});
  }
  if (is_complete && parts.contains(ModelPart::kVideoEncoder)) words.emplace_back("--with-encoder");
  return flags::join_command(words);
}

std::string describe_error(const Error& error) {
  if (const auto* refused = dynamic_cast<const InvalidRequest*>(&error)) {
    return flag_of(refused->field()) + ": " + refused->problem();
  }
  if (const auto* memory = dynamic_cast<const OutOfMemory*>(&error)) {
    return memory->what() + describe_remedies(memory->remedies());
  }
  if (const auto* missing = dynamic_cast<const ModelMissing*>(&error)) {
    return fmt::format("{}; to download it: {}", missing->what(),
                       download_command(missing->parts(), missing->folder()));
  }
  return error.what();
}

std::string describe_exception(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return describe_error(*ours);
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return fmt::format("'{}': {}", file->path1().string(), describe_errno(file->code().value()));
  }
  return error.what();
}

}  // namespace mochi::cli
