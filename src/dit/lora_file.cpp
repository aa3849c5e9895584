#include "dit/lora_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/printable.h"
#include "dit/lora_alpha.h"

namespace mochi {
namespace {

// The names of one layer's tensors in the file, by their parts.
struct LayerParts {
  std::map<LoraPart, std::string> names;
  LoraSpelling spelling = LoraSpelling::kGenmo;

  std::string find(std::optional<LoraPart> part) const {
    const auto found = part ? names.find(*part) : names.end();
    return found == names.end() ? "" : found->second;
  }
};

// The parts that make up a factor. Some formulas have factors that are never whole, or always.
struct FactorSpec {
  std::optional<LoraPart> whole, left, right;
};

struct KindSpec {
  LoraKind kind;
  std::vector<FactorSpec> factors;
};

const std::vector<KindSpec>& kind_specs() {
  using enum LoraPart;
  static const std::vector<KindSpec> specs{
      {LoraKind::kLora, {{{}, kUp, kDown}}},
      {LoraKind::kLoha, {{{}, kHada1A, kHada1B}, {{}, kHada2A, kHada2B}}},
      {LoraKind::kLokr, {{kLokr1, kLokr1A, kLokr1B}, {kLokr2, kLokr2A, kLokr2B}}},
      {LoraKind::kDifference, {{kDiff, {}, {}}}},
      {LoraKind::kLoraBias, {{kUpBias, {}, {}}}},
      {LoraKind::kBiasDifference, {{kBiasDiff, {}, {}}}},
  };
  return specs;
}

std::map<std::string, LayerParts> group_by_module(const Checkpoint& checkpoint,
                                                  const std::string& file_name) {
  std::map<std::string, LayerParts> groups;
  for (const std::string& name : checkpoint.names()) {
    const std::optional<LoraName> parsed = parse_lora_name(name);
    if (!parsed) fail_foreign_lora(name, file_name);
    LayerParts& parts = groups[parsed->module];
    const auto [found, is_new] = parts.names.emplace(parsed->part, name);
    if (!is_new) {
      fail("tensors '{}' and '{}' in '{}' are the same part of a LoRA", found->second, name,
           file_name);
    }
    if (parsed->part != LoraPart::kAlpha) parts.spelling = parsed->spelling;
  }
  if (groups.empty()) fail("'{}' holds no tensors of a LoRA", file_name);
  return groups;
}

// Makes the layers of one module.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const LoraAlphas& alphas, std::string file_name)
      : checkpoint_(checkpoint), alphas_(alphas), file_name_(std::move(file_name)) {}

  void read(const std::string& module, const LayerParts& parts,
            std::vector<LoraLayer>& layers) const {
    std::optional<LoraLayer> of_weight;
    for (const KindSpec& spec : kind_specs()) {
      if (!has_any(spec, parts)) continue;
      LoraLayer layer = make_layer(module, spec, parts);
      if (spec.kind == LoraKind::kLoraBias) take_strength(of_weight, parts, layer);
      if (!layer.is_bias()) {
        if (of_weight) fail_two_kinds(*of_weight, layer);
        of_weight = layer;
      }
      layers.push_back(std::move(layer));
    }
    if (!of_weight) check_companions(parts);
  }

 private:
  static bool has_any(const KindSpec& spec, const LayerParts& parts) {
    return std::ranges::any_of(spec.factors, [&parts](const FactorSpec& factor) {
      return !parts.find(factor.whole).empty() || !parts.find(factor.left).empty() ||
             !parts.find(factor.right).empty();
    });
  }

  LoraLayer make_layer(const std::string& module, const KindSpec& spec,
                       const LayerParts& parts) const {
    LoraLayer layer;
    layer.module = module;
    layer.kind = spec.kind;
    layer.spelling = parts.spelling;
    for (const FactorSpec& factor : spec.factors) {
      layer.factors.push_back(make_factor(factor, parts));
      set_rank(layer, layer.factors.back());
    }
    if (layer.is_bias()) return layer;
    set_magnitude(parts, layer);
    set_strength(parts, layer);
    return layer;
  }

  LoraFactor make_factor(const FactorSpec& spec, const LayerParts& parts) const {
    LoraFactor factor{parts.find(spec.whole), parts.find(spec.left), parts.find(spec.right)};
    const bool has_part = !factor.left.empty() || !factor.right.empty();
    if (!factor.whole.empty() && has_part) {
      fail("tensors '{}' and '{}' in '{}' are the same part of a LoKr", factor.whole,
           factor.left.empty() ? factor.right : factor.left, file_name_);
    }
    if (!factor.whole.empty()) return factor;
    if (!has_part) fail_missing(parts, spec.whole ? spec.whole : spec.left);
    if (factor.left.empty()) fail_missing(factor.right, spec.left);
    if (factor.right.empty()) fail_missing(factor.left, spec.right);
    return factor;
  }

  [[noreturn]] void fail_missing(const LayerParts& parts, std::optional<LoraPart> missing) const {
    fail_missing(parts.names.begin()->second, missing);
  }
  [[noreturn]] void fail_missing(const std::string& found, std::optional<LoraPart> missing) const {
    fail("tensor '{}' in '{}' has no matching {}", found, file_name_,
         missing ? lora_part_name(*missing) : "tensor");
  }

  [[noreturn]] void fail_two_kinds(const LoraLayer& first, const LoraLayer& second) const {
    fail("tensors '{}' and '{}' in '{}' belong to a {} and a {} of one layer: wanted one kind",
         first.tensor_names().front(), second.tensor_names().front(), file_name_, first.kind_name(),
         second.kind_name());
  }

  // Sets the rank that the matrices of a product share.
  void set_rank(LoraLayer& layer, const LoraFactor& factor) const {
    if (!factor.whole.empty()) return;
    const LoraSizes left = lora_sizes(checkpoint_, factor.left);
    const LoraSizes right = lora_sizes(checkpoint_, factor.right);
    const std::string right_shape = checkpoint_.info(factor.right).shape.to_string();
    if (right.rows < 1) {
      fail("tensor '{}' in '{}': wanted a rank of at least 1, found shape {}", factor.right,
           file_name_, right_shape);
    }
    if (left.columns != right.rows) {
      fail("tensor '{}' in '{}': wanted {} columns for the rows of '{}' {}, found {}", factor.left,
           file_name_, right.rows, factor.right, right_shape,
           checkpoint_.info(factor.left).shape.to_string());
    }
    if (layer.rank != 0 && layer.rank != right.rows) {
      fail("tensor '{}' in '{}': wanted rank {}, that of '{}', found {}", factor.right, file_name_,
           layer.rank, layer.factors.front().right, right.rows);
    }
    layer.rank = right.rows;
  }

  void set_magnitude(const LayerParts& parts, LoraLayer& layer) const {
    const std::string of_rows = parts.find(LoraPart::kMagnitude);
    const std::string by_shape = parts.find(LoraPart::kDoraScale);
    if (!of_rows.empty() && !by_shape.empty()) {
      fail("tensors '{}' and '{}' in '{}' are the same part of a DoRA", of_rows, by_shape,
           file_name_);
    }
    layer.magnitude_is_of_rows = by_shape.empty();
    layer.magnitude = of_rows.empty() ? by_shape : of_rows;
    if (alphas_.is_dora() && layer.magnitude.empty()) {
      fail_missing(parts, LoraPart::kMagnitude);
    }
  }

  void set_strength(const LayerParts& parts, LoraLayer& layer) const {
    if (layer.kind == LoraKind::kDifference) return;
    if (layer.rank == 0) {
      layer.strength = alphas_.factor_of_whole(layer.module);
      return;
    }
    const LoraStrength found = alphas_.find(layer.module, layer.rank, parts.find(LoraPart::kAlpha));
    layer.alpha = found.alpha;
    layer.strength = found.factor;
    layer.has_alpha = found.has_alpha;
  }

  // Gives the bias of B the strength of its LoRA.
  void take_strength(const std::optional<LoraLayer>& lora, const LayerParts& parts,
                     LoraLayer& bias) const {
    if (!lora || lora->kind != LoraKind::kLora) fail_missing(parts, LoraPart::kDown);
    if (!lora->magnitude.empty()) {
      fail("tensor '{}' in '{}' is the bias of a DoRA, which is not supported",
           bias.factors.front().whole, file_name_);
    }
    bias.strength = lora->strength;
  }

  // Throws if there is an alpha or a norm, as no matrix is present that it belongs to.
  void check_companions(const LayerParts& parts) const {
    for (const LoraPart part : {LoraPart::kAlpha, LoraPart::kMagnitude, LoraPart::kDoraScale}) {
      const std::string name = parts.find(part);
      if (!name.empty()) fail_missing(name, LoraPart::kDown);
    }
  }

  const Checkpoint& checkpoint_;
  const LoraAlphas& alphas_;
  std::string file_name_;
};

// peft saves a folder; the file in it is the LoRA.
[[noreturn]] void fail_folder(const std::filesystem::path& path) {
  const std::filesystem::path file = path / kPeftLoraFile;
  const std::string hint = std::filesystem::exists(file)
                               ? fmt::format(", did you mean '{}'?", file.string())
                               : std::string();
  fail("LoRA '{}': wanted a .safetensors file, found a folder{}", path.string(), hint);
}

}  // namespace

std::string_view LoraLayer::kind_name() const {
  const bool is_dora = !magnitude.empty();
  switch (kind) {
    case LoraKind::kLora:
      return is_dora ? "DoRA" : "LoRA";
    case LoraKind::kLoha:
      return is_dora ? "LoHa with DoRA's norms" : "LoHa";
    case LoraKind::kLokr:
      return is_dora ? "LoKr with DoRA's norms" : "LoKr";
    case LoraKind::kDifference:
      return is_dora ? "difference with DoRA's norms" : "difference";
    case LoraKind::kBiasDifference:
      return "difference of biases";
    case LoraKind::kLoraBias:
      return "bias of a LoRA";
  }
  return "";
}

std::vector<std::string> LoraLayer::tensor_names() const {
  std::vector<std::string> names;
  for (const LoraFactor& factor : factors) {
    for (const std::string& name : {factor.whole, factor.right, factor.left}) {
      if (!name.empty()) names.push_back(name);
    }
  }
  if (!magnitude.empty()) names.push_back(magnitude);
  return names;
}

LoraFile::LoraFile(std::shared_ptr<const Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)), name_(checkpoint_->files().front().string()) {
  const LoraAlphas alphas(*checkpoint_);
  const LayerReader reader(*checkpoint_, alphas, name_);
  for (const auto& [module, parts] : group_by_module(*checkpoint_, name_)) {
    reader.read(module, parts, layers_);
  }
}

LoraFile LoraFile::open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail_folder(path);
  return LoraFile(Checkpoint::open(path));
}

LoraSizes lora_sizes(const Checkpoint& checkpoint, const std::string& name) {
  const Shape shape = checkpoint.info(name).shape;
  if (shape.rank() == 1) return {shape[0], 1};
  if (shape.rank() != 2 && shape.rank() != 4) {
    fail("tensor '{}' in '{}': wanted 2 dimensions, found {}", name,
         checkpoint.file_of(name).string(), shape.to_string());
  }
  std::int64_t num_columns = 1;
  for (int dim = 1; dim < shape.rank(); ++dim) num_columns *= shape[dim];
  return {shape[0], num_columns};
}

LoraSizes lora_sizes(const Checkpoint& checkpoint, const LoraFactor& factor) {
  if (!factor.whole.empty()) return lora_sizes(checkpoint, factor.whole);
  return {lora_sizes(checkpoint, factor.left).rows, lora_sizes(checkpoint, factor.right).columns};
}

std::string warn_of_zero_alphas(const LoraFile& file) {
  // A DoRA sets the norms in any case.
  const std::int64_t num_zero = std::ranges::count_if(file.layers(), [](const LoraLayer& layer) {
    return layer.strength == 0.0 && layer.magnitude.empty();
  });
  if (num_zero == 0) return "";
  const std::string name = printable(file.name());
  if (num_zero == std::ssize(file.layers())) {
    return fmt::format("LoRA '{}' changes nothing, because its alpha is 0", name);
  }
  return fmt::format("LoRA '{}': {} of its {} changes have no effect, because their alpha is 0",
                     name, num_zero, file.layers().size());
}

bool holds_lora(const TensorSource& source) {
  return std::ranges::any_of(source.names(), is_lora_name);
}

}  // namespace mochi
