// The values of a LoRA layer's change ΔW, computed from the file's matrices row by row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "dit/lora_file.h"
#include "tensor/tensor.h"

namespace mochi {

// ΔW before it is multiplied by its strength. Const calls are safe from several threads.
class LoraChange {
 public:
  LoraChange() = default;
  virtual ~LoraChange() = default;
  LoraChange(const LoraChange&) = delete;
  LoraChange& operator=(const LoraChange&) = delete;

  // Writes one row. `values` has as many elements as ΔW has columns.
  virtual void compute_row(std::int64_t row, std::span<float> values) const = 0;
};

// Throws Error naming the tensors and both sizes unless ΔW has the sizes wanted. Only the file's
// header is read.
void check_lora_sizes(const LoraFile& file, const LoraLayer& layer, const LoraSizes& wanted);

// Reads the matrices in F32. Throws Error when a value is not finite. The layer's sizes must have
// been checked.
std::unique_ptr<LoraChange> read_lora_change(const Checkpoint& checkpoint, const LoraLayer& layer);

// Gives each row of `weight` [rows, columns], or each column, the norm that the layer's DoRA has
// for it. A row or a column of zeros stays.
void apply_lora_magnitude(const LoraFile& file, const LoraLayer& layer, const TensorView& weight);

}  // namespace mochi
