#include "backend/backend.h"

#include "base/error.h"

namespace mochi {

void Context::check_stop() const {
  if (should_stop != nullptr && *should_stop && (*should_stop)()) throw Cancelled();
}

std::byte* grow(Tensor& memory, std::size_t num_bytes, Allocator& allocator) {
  if (!memory || memory.view().size_bytes() < num_bytes) {
    memory = Tensor();  // freed first, so that the old and the new memory never exist together
    memory = Tensor(DType::kU8, {static_cast<std::int64_t>(num_bytes)}, allocator);
  }
  return memory.view().bytes();
}

TensorView Backend::widened(const MatrixView& matrix) {
  const std::size_t num_bytes = storage_bytes(matrix.dtype(), matrix.num_elements());
  const TensorView out(grow(dense_memory_, num_bytes, allocator()), matrix.dtype(), matrix.shape(),
                       device_->device());
  run(ops::Widen{.matrix = matrix, .out = out});
  return out;
}

void check_copy(const char* what, const TensorView& source, const TensorView& target) {
  if (source.dtype() != target.dtype() || source.shape() != target.shape()) {
    fail("{}: the source is {} {}, the target {} {}", what, dtype_name(source.dtype()),
         source.shape().to_string(), dtype_name(target.dtype()), target.shape().to_string());
  }
  if (!source.device().is_cpu() && !target.device().is_cpu()) {
    fail("{}: wanted a tensor of the host, found one on {} and one on {}", what,
         source.device().name(), target.device().name());
  }
}

}  // namespace mochi
