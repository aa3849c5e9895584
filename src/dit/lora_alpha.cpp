#include "dit/lora_alpha.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <span>

#include "base/error.h"
#include "dit/lora_names.h"

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

constexpr const char* kPeftSettings = "adapter_config.json";

// Kinds of peft's settings; LoHa and LoKr call their alpha by another name.
constexpr std::array<std::string_view, 3> kPeftKinds{"LORA", "LOHA", "LOKR"};

// Ways of peft to begin a training that change the model's own weights, too. Beginnings of values.
constexpr std::array<std::string_view, 5> kChangedBases{"pissa", "olora", "corda", "loftq",
                                                        "lora_ga"};

// Settings of peft with which a layer computes something else than a LoRA, a DoRA or a Kronecker or
// Hadamard product.
constexpr std::array<const char*, 4> kOtherFormulas{"kasa_config", "use_bdlora", "use_qalora",
                                                    "layer_replication"};

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

// As JSON and Python write it, or as a number.
std::optional<bool> parse_bool(std::string_view text) {
  if (text == "true" || text == "True" || text == "1") return true;
  if (text == "false" || text == "False" || text == "0") return false;
  return std::nullopt;
}

// How trainers write that a setting was not given.
bool is_unset(const std::string& text) { return text.empty() || text == "None" || text == "null"; }

// Settings of peft under another key than diffusers'.
bool is_peft_text(const std::string& text) {
  const auto has = [&text](const char* key) { return text.find(key) != std::string::npos; };
  return text.starts_with('{') && (has("lora_alpha\"") || has("peft_type\""));
}

// Returns true if a key of the metadata states an alpha in an unknown form.
bool is_strange_alpha(const std::string& key, const std::string& text) {
  constexpr std::string_view kAlpha = "alpha";
  const auto same_letter = [](unsigned char a, char b) { return std::tolower(a) == b; };
  const std::string_view ending =
      std::string_view(key).substr(key.size() - std::min(key.size(), kAlpha.size()));
  const bool is_known = std::ranges::find(kAlphaKeys, key) != kAlphaKeys.end();
  return !is_known && !is_unset(text) && std::ranges::equal(ending, kAlpha, same_letter) &&
         !key.starts_with("text_encoder");
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

// The value of the pattern that names the module, or the end of its name.
std::optional<double> find_pattern(const std::map<std::string, double>& patterns,
                                   std::string_view module) {
  for (const auto& [pattern, value] : patterns) {
    if (module == pattern || module.ends_with("." + pattern)) return value;
  }
  return std::nullopt;
}

// Patterns of the object `key`, without the prefixes that files put before the names of layers.
std::map<std::string, double> read_patterns(JsonReader& reader, const Json& json,
                                            const std::string& key) {
  std::map<std::string, double> patterns;
  std::optional<JsonReader> values = reader.get_object(key);
  if (!values) return patterns;
  for (const auto& [pattern, value] : json.at(key).items()) {
    check_pattern(pattern, reader.locate(key));
    patterns[strip_lora_prefixes(pattern)] = values->get_float(pattern, 0.0);
  }
  return patterns;
}

// Throws if the settings are those of something that the engine would merge wrongly.
void check_kind(JsonReader& reader, const std::string& part) {
  const std::string kind = reader.get_string(part + "peft_type", "LORA");
  if (std::ranges::find(kPeftKinds, kind) == kPeftKinds.end()) {
    fail("{}: wanted LORA, LOHA or LOKR, found '{}'", reader.locate(part + "peft_type"), kind);
  }
  for (const char* key : kOtherFormulas) {
    const Json* const value = reader.get_json(part + key);
    if (value == nullptr || value->is_null() || *value == false) continue;
    fail("{}: a kind of LoRA that is not supported: wanted null or false, found {}",
         reader.locate(part + key), value->dump());
  }
  const Json* const start = reader.get_json(part + "init_lora_weights");
  if (start == nullptr || !start->is_string()) return;
  const auto name = start->get<std::string>();
  for (const std::string_view changed : kChangedBases) {
    if (!name.starts_with(changed)) continue;
    fail("{}: wanted a LoRA for the model as it is, found '{}', which changes the model's weights",
         reader.locate(part + "init_lora_weights"), name);
  }
}

}  // namespace

LoraAlphas::LoraAlphas(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
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
  if (path.filename() == kPeftLoraFile && std::filesystem::exists(settings)) {
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
    if (reader.has(rank)) kind.rank = static_cast<double>(reader.require_int(rank));
    if (reader.has(alpha)) kind.alpha = reader.get_float(alpha, 0.0);
    return kind;
  };
  qkv_ = read_kind("qkv_proj_lora");
  out_ = read_kind("out_proj_lora");
}

void LoraAlphas::read_peft(const Json& json, const std::string& where) {
  JsonReader reader(json, where);
  const bool has_part =
      reader.has(std::string(kPart) + "lora_alpha") || reader.has(std::string(kPart) + "peft_type");
  const std::string part = has_part ? kPart : "";
  for (const char* key : {"alpha", "lora_alpha"}) {
    if (reader.has(part + key)) alpha_ = reader.get_float(part + key, 0.0);
  }
  is_rank_stabilised_ = reader.get_bool(part + "use_rslora", false);
  is_dora_ = reader.get_bool(part + "use_dora", false);
  check_kind(reader, part);
  alpha_patterns_ = read_patterns(reader, json, part + "alpha_pattern");
  rank_patterns_ = read_patterns(reader, json, part + "rank_pattern");
  if (reader.has(part + "r")) peft_rank_ = reader.get_float(part + "r", 0.0);
  peft_source_ = reader.locate(part + "r");
}

std::optional<double> LoraAlphas::peft_alpha(std::string_view module) const {
  const std::optional<double> own = find_pattern(alpha_patterns_, module);
  return own ? own : alpha_;
}

std::optional<double> LoraAlphas::peft_rank(std::string_view module) const {
  const std::optional<double> own = find_pattern(rank_patterns_, module);
  return own ? own : peft_rank_;
}

void LoraAlphas::check_peft_rank(std::string_view module, std::int64_t rank) const {
  const std::optional<double> stated = peft_rank(module);
  if (!stated || *stated == static_cast<double>(rank)) return;
  fail("{}: wanted {}, the rank of '{}', found {}", peft_source_, rank, module, *stated);
}

void LoraAlphas::read_plain(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, text] : metadata) {
    if (is_strange_alpha(key, text)) not_understood_ = fmt::format("{}: unknown key", key);
  }
  const std::optional<Stated> alpha = read_stated(metadata, kAlphaKeys, not_understood_);
  const std::optional<Stated> rank = read_stated(metadata, kRankKeys, not_understood_);
  if (alpha) plain_.alpha = alpha->value;
  if (rank) plain_.rank = rank->value;
  for (const char* key : kRootKeys) {
    const auto found = metadata.find(key);
    if (found == metadata.end() || is_unset(found->second)) continue;
    const std::optional<bool> value = parse_bool(found->second);
    if (!value) {
      not_understood_ = fmt::format("{}: wanted true or false, found '{}'", key, found->second);
    }
    is_rank_stabilised_ = value.value_or(false);
  }
}

LoraStrength LoraAlphas::find(std::string_view module, std::int64_t rank,
                              const std::string& alpha_name) const {
  const std::optional<double> stated =
      alpha_name.empty() ? find_stated(module, rank) : checkpoint_.number(alpha_name);
  const auto count = static_cast<double>(rank);
  const bool is_root = stated && is_rank_stabilised_;
  const double alpha = stated.value_or(count);
  const double factor = alpha / (is_root ? std::sqrt(count) : count);
  if (!std::isfinite(factor)) {
    fail("'{}': wanted a finite alpha of '{}', found {}", file_name_, module, alpha);
  }
  return {alpha, factor, stated.has_value()};
}

double LoraAlphas::factor_of_whole(std::string_view module) const {
  const std::optional<double> alpha = peft_alpha(module);
  const std::optional<double> rank = peft_rank(module);
  if (!alpha || !rank) return 1.0;
  const double factor = *alpha / *rank;
  if (!std::isfinite(factor)) {
    fail("{}: wanted a positive rank of '{}', found {}", peft_source_, module, *rank);
  }
  return factor;
}

std::optional<double> LoraAlphas::find_stated(std::string_view module, std::int64_t rank) const {
  check_peft_rank(module, rank);
  if (const std::optional<double> alpha = peft_alpha(module)) return alpha;
  const bool is_qkv = module.find(".attn.qkv_") != std::string_view::npos;
  const bool is_out = module.find(".attn.proj_") != std::string_view::npos;
  if (!is_qkv && !is_out) return find_plain(module, rank);
  const Kind& kind = is_qkv ? qkv_ : out_;
  if (kind.rank && *kind.rank != static_cast<double>(rank)) {
    fail("{} ({}): {}_proj_lora_rank: wanted {}, the rank of '{}', found {}", file_name_, kGenmoKey,
         is_qkv ? "qkv" : "out", rank, module, *kind.rank);
  }
  return kind.alpha ? kind.alpha : find_plain(module, rank);
}

std::optional<double> LoraAlphas::find_plain(std::string_view module, std::int64_t rank) const {
  if (!not_understood_.empty()) fail("{} (metadata): {}", file_name_, not_understood_);
  if (plain_.alpha && plain_.rank && *plain_.rank != static_cast<double>(rank)) {
    fail("{} (metadata): wanted rank {}, that of '{}', found {}", file_name_, rank, module,
         *plain_.rank);
  }
  return plain_.alpha;
}

}  // namespace mochi
