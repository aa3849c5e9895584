#include "io/scaled_source.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/json.h"

namespace mochi {
namespace {

constexpr std::string_view kScaledMarker = "scaled_fp8";
constexpr std::string_view kFormat = ".comfy_quant";
constexpr const char* kFormatsKey = "_quantization_metadata";
constexpr std::array<std::string_view, 2> kWeightScales{".scale_weight", ".weight_scale"};
// Scales of a layer's input. The engine computes with inputs that are not quantised.
constexpr std::array<std::string_view, 2> kInputScales{".scale_input", ".input_scale"};
constexpr std::string_view kInt8Format = "int8_tensorwise";
constexpr std::array<std::string_view, 3> kFormats{"float8_e4m3fn", "float8_e5m2", kInt8Format};
constexpr std::string_view kInt8 = "I8";
// Types of the elements in these formats.
constexpr std::array<std::string_view, kFormats.size()> kElementTypes{"F8_E4M3", "F8_E5M2", kInt8};

// Matrices that are looked up, not multiplied with.
constexpr std::array<std::string_view, 3> kTables{"shared.weight", "embed_tokens.weight",
                                                  "relative_attention_bias.weight"};

// Last parts of the names that other quantised formats give to the companions of a weight.
struct ForeignPart {
  std::string_view part;
  std::string_view format;
};
constexpr std::array kForeignParts{ForeignPart{"absmax", "bitsandbytes"},
                                   ForeignPart{"nested_absmax", "bitsandbytes"},
                                   ForeignPart{"quant_map", "bitsandbytes"},
                                   ForeignPart{"SCB", "bitsandbytes"},
                                   ForeignPart{"qweight", "GPTQ or AWQ"},
                                   ForeignPart{"qzeros", "GPTQ or AWQ"},
                                   ForeignPart{"g_idx", "GPTQ or AWQ"},
                                   ForeignPart{"weight_scale_2", "nvfp4"},
                                   ForeignPart{"weight_scale_inv", "block-wise fp8"}};

bool ends_with_any(std::string_view name, std::span<const std::string_view> endings) {
  return std::ranges::any_of(endings,
                             [name](std::string_view ending) { return name.ends_with(ending); });
}

bool is_marker(std::string_view name) {
  return name == kScaledMarker ||
         (name.ends_with(kScaledMarker) && name[name.size() - kScaledMarker.size() - 1] == '.');
}

// Returns the format of the quantised weight that a name which nothing here reads belongs to; empty
// if it does not look like one.
std::string_view foreign_format(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  const auto* const known = std::ranges::find(kForeignParts, last, &ForeignPart::part);
  if (known != kForeignParts.end()) return known->format;
  if (name.find("quant_state") != std::string_view::npos) return "bitsandbytes";
  const bool looks_quantised = last.find("scale") != std::string_view::npos ||
                               last.ends_with("_qweight") || last == "zero_point";
  return looks_quantised ? "an unknown format" : "";
}

void check_format(const std::string& format, const std::string& where) {
  if (std::ranges::find(kFormats, format) != kFormats.end()) return;
  fail("{}: weights of format '{}' are not read, only {}", where, format,
       fmt::join(kFormats, ", "));
}

// ConvRot stores rotated weights under the name of a format without rotation.
std::string read_format(JsonReader& reader) {
  const std::string format = reader.require_string("format");
  const Json* rotation = reader.get_json("convrot");
  const bool is_rotated = rotation != nullptr && *rotation != Json(false);
  return is_rotated ? format + " with convrot" : format;
}

std::string parse_format(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  JsonReader reader(json, where);
  return read_format(reader);
}

// Finds out how the weights of one source are stored.
class Scan {
 public:
  explicit Scan(const StoredSource& stored) : stored_(stored) {
    for (const std::string& name : stored.names()) add(name);
    read_formats();
    for (const auto& [weight, format] : quantised_) check_weight(weight, format);
    if (has_marker_ || !scales_.empty()) check_all_scaled();
    check_integers();
  }

  ScaledSource::Scales take_scales() { return std::move(scales_); }
  std::vector<std::string> take_hidden() { return {hidden_.begin(), hidden_.end()}; }

 private:
  void add(const std::string& name) {
    if (is_marker(name)) {
      has_marker_ = true;
    } else if (name.ends_with(kFormat)) {
      add_format(name);
    } else if (ends_with_any(name, kWeightScales)) {
      add_scale(name);
    } else if (!ends_with_any(name, kInputScales)) {
      const std::string_view format = foreign_format(name);
      if (format.empty()) return;
      fail("tensor '{}' in '{}': its weights are quantised in {}, which is not read", name,
           stored_.file_of(name).string(), format);
    }
    hidden_.insert(name);
  }

  void add_format(const std::string& name) {
    const std::string layer = name.substr(0, name.size() - kFormat.size());
    const auto bytes = stored_.entry(name).bytes;
    const std::string where =
        fmt::format("tensor '{}' in '{}'", name, stored_.file_of(name).string());
    const std::string format =
        parse_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, where);
    check_format(format, where);
    const std::string weight = layer + ".weight";
    if (!stored_.contains(weight)) fail("{}: there is no '{}' that it describes", where, weight);
    quantised_.emplace(weight, format);
  }

  // Checks a weight whose format is stated.
  void check_weight(const std::string& weight, const std::string& format) const {
    const StoredEntry& entry = stored_.entry(weight);
    const auto* const found = std::ranges::find(kFormats, format);
    const std::string_view wanted =
        kElementTypes.at(static_cast<std::size_t>(found - kFormats.begin()));
    const std::string file = stored_.file_of(weight).string();
    if (entry.dtype_name != wanted) {
      fail("tensor '{}' in '{}': its format is '{}', which has elements of {}, found {}", weight,
           file, format, wanted, entry.dtype_name);
    }
    if (!scales_.contains(weight)) {
      fail("tensor '{}' in '{}': its scale is missing", weight, file);
    }
  }

  void add_scale(const std::string& name) {
    const std::string weight = name.substr(0, name.rfind('.')) + ".weight";
    if (!stored_.contains(weight)) {
      fail("tensor '{}' in '{}': there is no '{}' that it scales", name,
           stored_.file_of(name).string(), weight);
    }
    if (!scales_.emplace(weight, name).second) {
      fail("tensors '{}' and '{}' in {} scale the same weight", scales_[weight], name,
           stored_.description());
    }
  }

  // Reads the formats of layers that the metadata states.
  void read_formats() {
    const auto metadata = stored_.metadata();
    const auto found = metadata.find(kFormatsKey);
    if (found == metadata.end()) return;
    const std::string where = fmt::format("{} ({})", stored_.description(), kFormatsKey);
    const Json json = parse_json(found->second, where);
    JsonReader root(json, where);
    if (!root.get_object("layers")) return;
    const std::string prefix = stored_.prefix();
    for (const auto& [name, value] : json["layers"].items()) {
      if (!name.starts_with(prefix)) continue;
      const std::string layer = name.substr(prefix.size());
      JsonReader reader(value, where, "layers." + name);
      const std::string format = read_format(reader);
      check_format(format, fmt::format("{}: {}", where, name));
      if (stored_.contains(layer + ".weight")) quantised_.emplace(layer + ".weight", format);
    }
  }

  // With a marker or with any scale, the 8-bit matrices of all linear layers are scaled; tables are
  // not.
  void check_all_scaled() const {
    for (const std::string& name : stored_.names()) {
      const StoredEntry& entry = stored_.entry(name);
      if (!name.ends_with(".weight") || !entry.dtype_name.starts_with("F8_")) continue;
      if (entry.sizes.size() != 2 || scales_.contains(name) || ends_with_any(name, kTables))
        continue;
      fail("tensor '{}' in '{}': its scale is missing", name, stored_.file_of(name).string());
    }
  }

  // Integers are stored in several ways, so that the format has to be stated.
  void check_integers() const {
    for (const auto& [weight, scale] : scales_) {
      if (stored_.entry(weight).dtype_name != kInt8 || quantised_.contains(weight)) continue;
      fail("tensor '{}' in '{}': scaled weights of I8 are read only as {}, which is not stated",
           weight, stored_.file_of(weight).string(), kInt8Format);
    }
  }

  const StoredSource& stored_;
  ScaledSource::Scales scales_;
  std::set<std::string> hidden_;
  std::map<std::string, std::string> quantised_;  // weights whose format is stated
  bool has_marker_ = false;
};

}  // namespace

bool ScaledSource::is_hidden(std::string_view name) const {
  return std::ranges::binary_search(hidden_, name, std::less<>());
}

std::vector<std::string> ScaledSource::without_hidden(std::vector<std::string> names) const {
  std::erase_if(names, [this](const std::string& name) { return is_hidden(name); });
  return names;
}

std::vector<std::string> ScaledSource::names() const { return without_hidden(stored_->names()); }

std::vector<std::string> ScaledSource::unread() const { return without_hidden(stored_->unread()); }

bool ScaledSource::contains(std::string_view name) const {
  return !is_hidden(name) && stored_->contains(name);
}

std::vector<float> ScaledSource::read_scales(std::string_view name, const Shape& shape) const {
  const std::string& scale_name = scales_.find(name)->second;
  const TensorInfo found = stored_->info(scale_name);
  const std::int64_t count = found.shape.num_elements();
  const bool is_per_row = found.shape.rank() >= 1 && found.shape[0] == count;
  if (count != 1 && !(is_per_row && shape.rank() > 0 && count == shape[0])) {
    fail("tensor '{}' in '{}': wanted one scale, or one for each row of '{}' {}, found {}",
         scale_name, found.origin, name, shape.to_string(), found.shape.to_string());
  }
  std::vector<float> scales(static_cast<std::size_t>(count));
  stored_->read_f32(scale_name, scales);
  return scales;
}

TensorInfo ScaledSource::info(std::string_view name) const {
  if (is_hidden(name)) fail_missing(name);
  TensorInfo info = stored_->info(name);
  if (!scales_.contains(name)) return info;
  const auto* const dtype = std::get_if<DType>(&info.type);
  if (dtype == nullptr || (!is_float(*dtype) && *dtype != DType::kI8)) {
    fail("tensor '{}' in '{}': scaled weights of {} are not read", name, info.origin,
         storage_type_name(info.type));
  }
  read_scales(name, info.shape);  // checks their number
  info.is_scaled = true;
  return info;
}

std::vector<StoredRows> ScaledSource::stored_rows(std::string_view name) const {
  if (is_hidden(name)) fail_missing(name);
  std::vector<StoredRows> parts = stored_->stored_rows(name);
  if (!scales_.contains(name)) return parts;
  // A stored tensor is one part.
  parts.front().scales = read_scales(name, info(name).shape);
  return parts;
}

ScaleSummary summarise_scales(const TensorSource& source) {
  ScaleSummary summary;
  for (const std::string& name : source.names()) {
    summary.has_scales = summary.has_scales || ends_with_any(name, kWeightScales);
    summary.has_input_scales = summary.has_input_scales || ends_with_any(name, kInputScales);
  }
  return summary;
}

std::shared_ptr<TensorSource> with_scales(std::shared_ptr<StoredSource> stored) {
  Scan scan(*stored);
  ScaledSource::Scales scales = scan.take_scales();
  std::vector<std::string> hidden = scan.take_hidden();
  if (hidden.empty()) return stored;
  return std::make_shared<ScaledSource>(std::move(stored), std::move(scales), std::move(hidden));
}

}  // namespace mochi
