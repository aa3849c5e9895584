#include "cli/field_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <utility>

namespace mochi::cli {
namespace {

using Names = std::pair<std::string_view, std::string_view>;

// Fields whose flags have other names.
constexpr std::array kOtherNames{
    Names{"num_threads", "threads"},         Names{"precision", "dtype"},
    Names{"vram_limit_bytes", "vram-limit"}, Names{"loras", "lora-path"},
    Names{"initial_noise", "noise"},         Names{"latents", "noise"},
    Names{"checks_finite", "check-nan"},     Names{"sparsity", "chipmunk-config"},
    Names{"num_layers", "layers"},           Names{"num_repetitions", "repetitions"},
};

std::string spell_flag(std::string_view field) {
  const auto* const other = std::ranges::find(kOtherNames, field, &Names::first);
  std::string flag = "--";
  flag += other != kOtherNames.end() ? other->second : field;
  std::ranges::replace(flag, '_', '-');
  return flag;
}

}  // namespace

std::string flag_of_field(const CLI::App& command, std::string_view field) {
  const std::string flag = spell_flag(field);
  const bool is_declared = command.get_option_no_throw(flag) != nullptr;
  return is_declared ? flag : std::string(field);
}

}  // namespace mochi::cli
