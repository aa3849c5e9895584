#include "dit/lora_alpha.h"

#include <fmt/format.h>

#include "base/error.h"

namespace mochi {
namespace {

constexpr const char* kGenmoKey = "kwargs";
constexpr const char* kPeftKey = "lora_adapter_metadata";
// diffusers puts the pipeline's part before each key.
constexpr const char* kPart = "transformer.";

// The peft library keeps its settings beside the file that it gives this name.
constexpr const char* kPeftFile = "adapter_model.safetensors";
constexpr const char* kPeftSettings = "adapter_config.json";

// peft takes patterns for regular expressions; those in use are names.
void check_pattern(const std::string& pattern, const std::string& where) {
  constexpr const char* kNameLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
  if (pattern.empty() || pattern.find_first_not_of(kNameLetters) != std::string::npos) {
    fail("{}: wanted names of layers, found '{}'", where, pattern);
  }
}

bool matches(std::string_view module, const std::string& pattern) {
  return module == pattern || module.ends_with("." + pattern);
}

}  // namespace

LoraAlphas::LoraAlphas(const Checkpoint& checkpoint) {
  const std::filesystem::path path = checkpoint.files().front();
  file_name_ = path.string();
  const std::map<std::string, std::string> metadata = checkpoint.metadata();
  if (const auto found = metadata.find(kGenmoKey); found != metadata.end()) {
    read_genmo(found->second);
  }
  if (const auto found = metadata.find(kPeftKey); found != metadata.end()) {
    const std::string where = fmt::format("{} ({})", file_name_, kPeftKey);
    read_peft(parse_json(found->second, where), where);
    return;
  }
  const std::filesystem::path settings = path.parent_path() / kPeftSettings;
  if (path.filename() == kPeftFile && std::filesystem::exists(settings)) {
    read_peft(read_json(settings), settings.string());
  }
}

void LoraAlphas::read_genmo(const std::string& text) {
  const std::string where = fmt::format("{} ({})", file_name_, kGenmoKey);
  const Json json = parse_json(text, where);
  JsonReader reader(json, where);
  const auto read_kind = [&reader](const std::string& prefix) {
    Kind kind;
    const std::string rank = prefix + "_rank";
    const std::string alpha = prefix + "_alpha";
    if (reader.has(rank)) kind.rank = reader.require_int(rank);
    if (reader.has(alpha)) kind.alpha = reader.get_float(alpha, 0.0);
    return kind;
  };
  qkv_ = read_kind("qkv_proj_lora");
  out_ = read_kind("out_proj_lora");
}

void LoraAlphas::read_peft(const Json& json, const std::string& where) {
  JsonReader reader(json, where);
  const std::string part = reader.has(std::string(kPart) + "lora_alpha") ? kPart : "";
  if (reader.has(part + "lora_alpha")) alpha_ = reader.get_float(part + "lora_alpha", 0.0);
  is_rank_stabilised_ = reader.get_bool(part + "use_rslora", false);
  const std::string patterns_key = part + "alpha_pattern";
  std::optional<JsonReader> patterns = reader.get_object(patterns_key);
  if (!patterns) return;
  for (const auto& [pattern, value] : json.at(patterns_key).items()) {
    check_pattern(pattern, reader.locate(patterns_key));
    patterns_[pattern] = patterns->get_float(pattern, 0.0);
  }
}

std::optional<double> LoraAlphas::find(std::string_view module, std::int64_t rank) const {
  for (const auto& [pattern, alpha] : patterns_) {
    if (matches(module, pattern)) return alpha;
  }
  if (alpha_) return alpha_;
  const bool is_qkv = module.find(".attn.qkv_") != std::string_view::npos;
  const bool is_out = module.find(".attn.proj_") != std::string_view::npos;
  if (!is_qkv && !is_out) return std::nullopt;
  const Kind& kind = is_qkv ? qkv_ : out_;
  if (kind.rank && *kind.rank != rank) {
    fail("{} ({}): {}_proj_lora_rank: wanted {}, the rank of '{}', found {}", file_name_, kGenmoKey,
         is_qkv ? "qkv" : "out", rank, module, *kind.rank);
  }
  return kind.alpha;
}

}  // namespace mochi
