#include "dit/lora_alpha.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>

#include "base/error.h"

namespace mochi {
namespace {

constexpr const char* kGenmoKey = "kwargs";
constexpr const char* kPeftKey = "lora_adapter_metadata";
// diffusers puts the pipeline's part before each key.
constexpr const char* kPart = "transformer.";

// Keys of which the value is a plain number, as trainers write them into a file's metadata.
constexpr std::array<const char*, 5> kAlphaKeys{"transformer.lora_alpha", "lora_alpha",
                                                "ss_network_alpha", "network_alpha", "alpha"};
constexpr std::array<const char*, 6> kRankKeys{"transformer.r", "r",    "ss_network_dim",
                                               "network_dim",   "rank", "lora_rank"};
constexpr std::array<const char*, 2> kRootKeys{"transformer.use_rslora", "use_rslora"};

// The peft library stores its settings next to the file of this name.
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

// A whole text as a finite number.
std::optional<double> parse_number(const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool is_number = error == std::errc() && stop == end && std::isfinite(value);
  return is_number ? std::optional(value) : std::nullopt;
}

// How trainers write that a setting was not given.
bool is_unset(const std::string& text) { return text.empty() || text == "None" || text == "null"; }

// Settings of peft under another key than diffusers'.
bool is_peft_text(const std::string& text) {
  return text.starts_with('{') && text.find("lora_alpha\"") != std::string::npos;
}

// Returns true if a key of the metadata states an alpha in an unknown form.
bool is_strange_alpha(const std::string& key, const std::string& text) {
  const bool is_known = std::ranges::find(kAlphaKeys, key) != kAlphaKeys.end();
  return !is_known && !is_unset(text) && key.ends_with("alpha") && !key.starts_with("text_encoder");
}

struct Stated {
  std::string key;
  double value = 0;
};

// The number that the first of these keys states. Fills `problem` if one is no number, or if two
// contradict each other.
std::optional<Stated> read_stated(const std::map<std::string, std::string>& metadata,
                                  std::span<const char* const> keys, std::string& problem) {
  std::optional<Stated> found;
  for (const char* key : keys) {
    const auto entry = metadata.find(key);
    if (entry == metadata.end() || is_unset(entry->second)) continue;
    const std::optional<double> value = parse_number(entry->second);
    if (!value) {
      problem = fmt::format("{}: wanted a number, found '{}'", key, entry->second);
    } else if (found && found->value != *value) {
      problem = fmt::format("{} and {} contradict each other: {} and {}", found->key, key,
                            found->value, *value);
    } else if (!found) {
      found = {key, *value};
    }
  }
  return found;
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
  read_plain(metadata);
  for (const auto& [key, text] : metadata) {
    if (key != kPeftKey && !is_peft_text(text)) continue;
    const std::string where = fmt::format("{} ({})", file_name_, key);
    read_peft(parse_json(text, where), where);
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

void LoraAlphas::read_plain(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, text] : metadata) {
    if (is_strange_alpha(key, text)) not_understood_ = fmt::format("{}: unknown key", key);
  }
  const std::optional<Stated> alpha = read_stated(metadata, kAlphaKeys, not_understood_);
  const std::optional<Stated> rank = read_stated(metadata, kRankKeys, not_understood_);
  if (alpha) plain_.alpha = alpha->value;
  if (rank) plain_.rank = static_cast<std::int64_t>(rank->value);
  for (const char* key : kRootKeys) {
    const auto found = metadata.find(key);
    if (found == metadata.end()) continue;
    is_rank_stabilised_ = found->second == "true" || found->second == "True";
  }
}

std::optional<double> LoraAlphas::find(std::string_view module, std::int64_t rank) const {
  for (const auto& [pattern, alpha] : patterns_) {
    if (matches(module, pattern)) return alpha;
  }
  if (alpha_) return alpha_;
  const bool is_qkv = module.find(".attn.qkv_") != std::string_view::npos;
  const bool is_out = module.find(".attn.proj_") != std::string_view::npos;
  if (!is_qkv && !is_out) return find_plain(module, rank);
  const Kind& kind = is_qkv ? qkv_ : out_;
  if (kind.rank && *kind.rank != rank) {
    fail("{} ({}): {}_proj_lora_rank: wanted {}, the rank of '{}', found {}", file_name_, kGenmoKey,
         is_qkv ? "qkv" : "out", rank, module, *kind.rank);
  }
  return kind.alpha ? kind.alpha : find_plain(module, rank);
}

std::optional<double> LoraAlphas::find_plain(std::string_view module, std::int64_t rank) const {
  if (!not_understood_.empty()) fail("{} (metadata): {}", file_name_, not_understood_);
  if (plain_.alpha && plain_.rank && *plain_.rank != rank) {
    fail("{} (metadata): wanted rank {}, that of '{}', found {}", file_name_, rank, module,
         *plain_.rank);
  }
  return plain_.alpha;
}

}  // namespace mochi
