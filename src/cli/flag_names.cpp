#include "cli/flag_names.h"

#include <fmt/format.h>

#include <array>

namespace mochi::cli {
namespace {

struct NamedField {
  std::string_view field, flag;
};

constexpr std::array kFlags{
    NamedField{"prompt", "--prompt"},
    NamedField{"negative_prompt", "--negative-prompt"},
    NamedField{"width", "--width"},
    NamedField{"height", "--height"},
    NamedField{"num_frames", "--num-frames"},
    NamedField{"seed", "--seed"},
    NamedField{"num_steps", "--num-steps"},
    NamedField{"cfg_scale", "--cfg-scale"},
    NamedField{"cfg_schedule", "--cfg-schedule"},
    NamedField{"threshold_noise", "--threshold-noise"},
    NamedField{"linear_steps", "--linear-steps"},
    NamedField{"noise_source", "--noise-source"},
    NamedField{"initial_noise", "--noise"},
    NamedField{"sparsity", "--chipmunk-config"},
    NamedField{"device", "--device"},
    NamedField{"precision", "--dtype"},
    NamedField{"dtype", "--dtype"},
    NamedField{"vram_limit_bytes", "--vram-limit"},
    NamedField{"num_threads", "--threads"},
    NamedField{"cpu_offload", "--cpu-offload"},
    NamedField{"loras", "--lora-path"},
    NamedField{"random_weights", "--random-weights"},
    NamedField{"repetitions", "--repetitions"},
    NamedField{"layers", "--layers"},
    NamedField{"size", "--size"},
    NamedField{"file", "--file"},
};

std::string describe_remedies(const std::set<Remedy>& remedies) {
  std::string text;
  if (remedies.contains(Remedy::kSmallerVideo)) text += "; a smaller video needs less";
  if (remedies.contains(Remedy::kCpuOffload)) text += ", and so does --cpu-offload";
  if (remedies.contains(Remedy::kBf16)) text += ", and so does --dtype bf16";
  if (remedies.contains(Remedy::kRaiseVramLimit)) text += "; --vram-limit may be too low";
  return text;
}

}  // namespace

std::string flag_of(std::string_view field) {
  for (const NamedField& named : kFlags) {
    if (named.field == field) return std::string(named.flag);
  }
  return std::string(field);
}

std::string describe_error(const Error& error) {
  if (const auto* refused = dynamic_cast<const InvalidRequest*>(&error)) {
    return flag_of(refused->field()) + ": " + refused->problem();
  }
  if (const auto* memory = dynamic_cast<const OutOfMemory*>(&error)) {
    return memory->what() + describe_remedies(memory->remedies());
  }
  return error.what();
}

}  // namespace mochi::cli
