#include "dit/lora.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/parallel_for.h"
#include "dit/lora_change.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

// N of "blocks.N.…" and "transformer_blocks.N.…", also with underscores instead of dots.
std::optional<std::int64_t> block_of(std::string_view module) {
  module = strip_flat_prefix(module).value_or(module);
  for (const std::string_view prefix : {"blocks", "transformer_blocks"}) {
    if (!module.starts_with(prefix)) continue;
    module.remove_prefix(std::min(prefix.size() + 1, module.size()));
    std::int64_t block_idx = 0;
    const auto [end, error] =
        std::from_chars(module.data(), module.data() + module.size(), block_idx);
    const bool has_layer = error == std::errc() && end != module.data() + module.size();
    if (has_layer && (*end == '.' || *end == '_')) return block_idx;
    return std::nullopt;
  }
  return std::nullopt;
}

[[noreturn]] void fail_unknown(const LoraFile& file, const LoraLayer& layer,
                               const DitConfig& config, const LoraTargets& targets) {
  const std::string name = layer.tensor_names().front();
  const std::optional<std::int64_t> block_idx = block_of(layer.module);
  if (block_idx && *block_idx >= config.depth) {
    fail("tensor '{}' in '{}': the model has {} blocks, found block {}: a LoRA for another model",
         name, file.name(), config.depth, *block_idx);
  }
  if (layer.is_bias() && targets.find_weight(layer.module) != nullptr) {
    fail("tensor '{}' in '{}': the model's layer '{}' has no bias", name, file.name(),
         layer.module);
  }
  fail("tensor '{}' in '{}': the model has no layer '{}', did you mean '{}'?", name, file.name(),
       layer.module, targets.nearest(layer.module));
}

// Calls fn(row of the layer, row of the weight) for all rows of the layer, in parallel.
template <typename Fn>
void for_rows(const LoraTarget& target, const Fn& fn) {
  constexpr std::int64_t kGrain = 16;
  for (const LoraRows& rows : target.rows) {
    parallel_for(0, rows.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) fn(rows.begin + row, rows.target + row);
    });
  }
}

// to += factor · from
void add_row(std::span<const float> from, float factor, float* to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] += factor * from[i];
}

// Computes W + scale · strength · ΔW in F32; ΔW is computed first, as if it were a separate matrix.
void add_change(const LoraDelta& delta, const LoraChange& change, float* weight) {
  const std::int64_t num_columns = delta.target.in_features;
  const auto factor = static_cast<float>(delta.scale * delta.layer->strength);
  for_rows(delta.target, [&](std::int64_t row, std::int64_t weight_row) {
    std::vector<float> values(static_cast<std::size_t>(num_columns));
    change.compute_row(row, values);
    add_row(values, factor, weight + weight_row * num_columns);
  });
}

// Computes W + scale · (W′ − base), where W′ is base + strength · ΔW with the DoRA's norms.
void add_decomposed(const LoraDelta& delta, const LoraChange& change, const float* base,
                    float* weight) {
  const std::int64_t num_columns = delta.target.in_features;
  const auto row_size = static_cast<std::size_t>(num_columns);
  const Tensor changed(DType::kF32, {delta.target.out_features, num_columns});
  float* const values = changed.view().f32().data();
  const auto strength = static_cast<float>(delta.layer->strength);
  for_rows(delta.target, [&](std::int64_t row, std::int64_t weight_row) {
    std::vector<float> product(row_size);
    change.compute_row(row, product);
    float* const to = values + row * num_columns;
    std::copy_n(base + weight_row * num_columns, num_columns, to);
    add_row(product, strength, to);
  });
  apply_lora_magnitude(*delta.file, *delta.layer, changed);
  const auto scale = static_cast<float>(delta.scale);
  for_rows(delta.target, [&](std::int64_t row, std::int64_t weight_row) {
    const std::int64_t offset = weight_row * num_columns;
    for (std::int64_t i = 0; i < num_columns; ++i) {
      weight[offset + i] += scale * (values[row * num_columns + i] - base[offset + i]);
    }
  });
}

Tensor read_weight(const TensorSource& source, std::string_view name) {
  Tensor weight(DType::kF32, source.info(name).shape);
  source.read(name, weight);
  return weight;
}

// Adds all changes to a weight that holds the values without them.
void add_changes(const std::vector<LoraDelta>& deltas, const Tensor& weight) {
  const std::span<float> values = weight.view().f32();
  std::vector<float> base;
  if (std::ranges::any_of(deltas, [](const LoraDelta& delta) { return delta.is_decomposed(); })) {
    base.assign(values.begin(), values.end());
  }
  for (const LoraDelta& delta : deltas) {
    const auto change = read_lora_change(delta.file->checkpoint(), *delta.layer);
    if (delta.is_decomposed()) {
      add_decomposed(delta, *change, base.data(), values.data());
    } else {
      add_change(delta, *change, values.data());
    }
  }
}

}  // namespace

std::shared_ptr<const LoraFile> add_lora(const std::filesystem::path& path, double scale,
                                         const DitConfig& config, LoraDeltas& deltas) {
  if (!std::isfinite(scale))
    refuse("loras", "wanted a finite scale of '{}', found {}", path.string(), scale);
  auto file = std::make_shared<const LoraFile>(LoraFile::open(path));
  add_lora(file, scale, config, deltas);
  return file;
}

void add_lora(const std::shared_ptr<const LoraFile>& file, double scale, const DitConfig& config,
              LoraDeltas& deltas) {
  const LoraTargets targets(config);
  for (const LoraLayer& layer : file->layers()) {
    const LoraTarget* const target =
        layer.is_bias() ? targets.find_bias(layer.module) : targets.find_weight(layer.module);
    if (target == nullptr) fail_unknown(*file, layer, config, targets);
    check_lora_sizes(*file, layer, {target->out_features, target->in_features});
    const LoraDelta delta{file, &layer, scale, *target};
    // Adding zeros would turn -0 into 0.
    const bool is_zero = scale == 0.0 || (layer.strength == 0.0 && !delta.is_decomposed());
    if (!is_zero) deltas[target->parameter].push_back(delta);
  }
}

TensorInfo LoraMergedSource::info(std::string_view name) const {
  TensorInfo info = source_->info(name);
  if (!deltas_.contains(name)) return info;
  return {DType::kF32, info.shape, info.origin};
}

std::vector<StoredRows> LoraMergedSource::stored_rows(std::string_view name) const {
  const auto found = deltas_.find(name);
  if (found == deltas_.end()) return source_->stored_rows(name);
  const auto merged = std::make_shared<const Tensor>(read_weight(*source_, name));
  add_changes(found->second, *merged);
  const TensorView& view = merged->view();
  StoredRows rows{DType::kF32, view.shape(), {view.bytes(), view.size_bytes()}, merged};
  if (!all_finite(DType::kF32, rows.bytes)) {
    fail("LoRA '{}' makes values of '{}' infinite: its alpha or its scale is too large",
         found->second.back().file->name(), name);
  }
  return {std::move(rows)};
}

}  // namespace mochi
