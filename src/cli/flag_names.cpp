#include "cli/flag_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <new>

#include "job/request.h"

namespace mochi::cli {
namespace {

struct NamedField {
  std::string_view field, flag;
};

// Of fields whose flag has another name, and of those that are no fields of a request.
constexpr std::array kFlags{
    NamedField{"initial_noise", "--noise"},
    NamedField{"sparsity", "--chipmunk-config"},
    NamedField{"out", "--out"},
    NamedField{"save_latents", "--save-latents"},
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

bool is_request_field(std::string_view name) {
  bool is_found = false;
  const job::Request request;
  job::visit_request(request, [&](const job::Field& field, const auto& /*value*/, auto /*target*/) {
    is_found = is_found || field.name == name;
  });
  return is_found;
}

std::string describe_remedies(const std::set<Remedy>& remedies) {
  std::string text;
  if (remedies.contains(Remedy::kSmallerVideo)) text += "; a smaller video needs less";
  if (remedies.contains(Remedy::kCpuOffload)) text += ", and so does --cpu-offload";
  if (remedies.contains(Remedy::kBf16)) text += ", and so does --dtype bf16";
  if (remedies.contains(Remedy::kRaiseVramLimit)) text += "; --vram-limit may be too low";
  return text;
}

}  // namespace

std::string to_flag(std::string_view field) {
  std::string flag = "--" + std::string(field);
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string flag_of(std::string_view field) {
  for (const NamedField& named : kFlags) {
    if (named.field == field) return std::string(named.flag);
  }
  return is_request_field(field) ? to_flag(field) : std::string(field);
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

std::string describe_exception(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return describe_error(*ours);
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return fmt::format("'{}': {}", file->path1().string(), file->code().message());
  }
  return error.what();
}

}  // namespace mochi::cli
