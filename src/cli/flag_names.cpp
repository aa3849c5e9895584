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

// Returns the file of a part in genmo's repository; empty if it has none that is a single file.
std::string file_of(ModelPart part) {
  switch (part) {
    case ModelPart::kVideoDecoder:
      return "decoder.safetensors";
    case ModelPart::kVideoEncoder:
      return "encoder.safetensors";
    case ModelPart::kTokenizer:
      return "tokenizer/spiece.model";
    default:
      return "";
  }
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
  const std::string folder = flags::path_word(model_folder);
  std::vector<std::string> words{"mochi", "download", "genmo/mochi-1-preview", folder};
  bool is_small = !parts.empty();
  for (const ModelPart part : parts) {
    is_small = is_small && !file_of(part).empty();
    words.insert(words.end(), {"--include", file_of(part)});
  }
  if (is_small) return flags::join_command(words);
  if (parts == std::set{ModelPart::kTextEncoder}) {
    words = {"mochi", "download",  "Comfy-Org/mochi_preview_repackaged",
             folder,  "--include", "split_files/text_encoders/t5xxl_fp16.safetensors"};
    return flags::join_command(words);
  }
  words = {"mochi", "download", "mochi-1-preview", folder};
  if (parts.contains(ModelPart::kVideoEncoder)) words.emplace_back("--with-encoder");
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
