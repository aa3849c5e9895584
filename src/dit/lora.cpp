#include "dit/lora.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "base/parallel_for.h"
#include "io/convert.h"

namespace mochi {
namespace {

// N of "blocks.N.…" and "transformer_blocks.N.…".
std::optional<std::int64_t> block_of(std::string_view module) {
  for (const std::string_view prefix : {"blocks.", "transformer_blocks."}) {
    if (!module.starts_with(prefix)) continue;
    module.remove_prefix(prefix.size());
    std::int64_t block_idx = 0;
    const auto [end, error] =
        std::from_chars(module.data(), module.data() + module.size(), block_idx);
    if (error == std::errc() && end != module.data() + module.size() && *end == '.') {
      return block_idx;
    }
  }
  return std::nullopt;
}

[[noreturn]] void fail_unknown(const LoraFile& file, const LoraLayer& layer,
                               const DitConfig& config, const LoraTargets& targets) {
  const std::optional<std::int64_t> block_idx = block_of(layer.module);
  if (block_idx && *block_idx >= config.depth) {
    fail("tensor '{}' in '{}': the model has {} blocks, found block {}: a LoRA for another model",
         layer.down_name, file.name(), config.depth, *block_idx);
  }
  std::vector<std::string> known;
  for (const auto& [module, target] : targets) known.push_back(module);
  fail("tensor '{}' in '{}': the model has no layer '{}', did you mean '{}'?", layer.down_name,
       file.name(), layer.module, nearest_name(layer.module, known));
}

void check_sizes(const LoraFile& file, const LoraLayer& layer, const LoraTarget& target) {
  const auto check = [&file](const std::string& name, const Shape& wanted) {
    const Shape found = file.checkpoint().info(name).shape;
    if (found == wanted) return;
    fail("tensor '{}' in '{}': wanted shape {}, found {}: a LoRA for another model", name,
         file.name(), wanted.to_string(), found.to_string());
  };
  check(layer.down_name, {layer.rank, target.in_features});
  check(layer.up_name, {target.out_features, layer.rank});
}

// weight row += factor · up row · down, in F32; the products are summed first, as if up · down
// were a separate matrix.
void add_product(const LoraDelta& delta, const TensorView& weight) {
  const Checkpoint& checkpoint = delta.file->checkpoint();
  const std::int64_t rank = delta.layer->rank;
  const std::int64_t num_columns = weight.dim(1);
  const Tensor down(DType::kF32, {rank, num_columns});
  checkpoint.read(delta.layer->down_name, down);
  const Tensor up(DType::kF32, checkpoint.info(delta.layer->up_name).shape);
  checkpoint.read(delta.layer->up_name, up);
  const float* const down_values = down.view().f32().data();
  const float* const up_values = up.view().f32().data();
  float* const weights = weight.f32().data();

  const auto add_rows = [&](const LoraRows& rows, std::int64_t begin, std::int64_t end) {
    std::vector<float> sum(static_cast<std::size_t>(num_columns));
    for (std::int64_t row = begin; row < end; ++row) {
      std::ranges::fill(sum, 0.0F);
      for (std::int64_t k = 0; k < rank; ++k) {
        const float factor = up_values[(rows.begin + row) * rank + k];
        const float* const from = down_values + k * num_columns;
        for (std::int64_t i = 0; i < num_columns; ++i) sum[i] += factor * from[i];
      }
      float* const to = weights + (rows.target + row) * num_columns;
      for (std::int64_t i = 0; i < num_columns; ++i) to[i] += delta.factor * sum[i];
    }
  };
  constexpr std::int64_t kGrain = 16;
  for (const LoraRows& rows : delta.rows) {
    parallel_for(0, rows.count, kGrain,
                 [&](std::int64_t begin, std::int64_t end) { add_rows(rows, begin, end); });
  }
}

}  // namespace

void add_lora(const std::filesystem::path& path, double scale, const DitConfig& config,
              LoraDeltas& deltas) {
  if (!std::isfinite(scale))
    refuse("loras", "wanted a finite scale of '{}', found {}", path.string(), scale);
  const auto file = std::make_shared<const LoraFile>(LoraFile::open(path));
  const LoraTargets targets = list_lora_targets(config);
  for (const LoraLayer& layer : file->layers()) {
    const auto found = targets.find(layer.module);
    if (found == targets.end()) fail_unknown(*file, layer, config, targets);
    const LoraTarget& target = found->second;
    check_sizes(*file, layer, target);
    const auto factor = static_cast<float>(scale * layer.strength);
    // Adding zeros would turn -0 into 0.
    if (factor == 0.0F) continue;
    deltas[target.weight].push_back({file, &layer, factor, target.rows});
  }
}

TensorInfo LoraMergedSource::info(std::string_view name) const {
  TensorInfo info = source_->info(name);
  if (deltas_.contains(name)) info.dtype = DType::kF32;
  return info;
}

std::vector<StoredRows> LoraMergedSource::stored_rows(std::string_view name) const {
  const auto found = deltas_.find(name);
  if (found == deltas_.end()) return source_->stored_rows(name);
  const Shape shape = source_->info(name).shape;
  const auto merged = std::make_shared<const Tensor>(DType::kF32, shape);
  source_->read(name, *merged);
  for (const LoraDelta& delta : found->second) add_product(delta, *merged);
  const TensorView& view = merged->view();
  StoredRows rows{DType::kF32, shape, {view.bytes(), view.size_bytes()}, merged};
  if (!all_finite(rows.dtype, rows.bytes)) {
    fail("LoRA '{}' makes values of '{}' infinite: its alpha or its scale is too large",
         found->second.back().file->name(), name);
  }
  return {std::move(rows)};
}

}  // namespace mochi
