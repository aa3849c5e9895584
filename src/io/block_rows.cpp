#include "io/block_rows.h"

#include <memory>

#include "tensor/tensor.h"

namespace mochi {

StoredRows dequantized_rows(BlockFormat format, std::span<const std::byte> blocks,
                            const Shape& shape) {
  const auto values = std::make_shared<const Tensor>(DType::kF32, shape);
  const TensorView& view = values->view();
  dequantize(format, blocks, view.f32());
  return {DType::kF32, shape, {view.bytes(), view.size_bytes()}, values};
}

}  // namespace mochi
