#include "sparsity/state_tensors.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace mochi {
namespace {

Tensor widen(const TensorView& bf16) {
  Tensor widened(DType::kF32, bf16.shape());
  const auto* const bits = reinterpret_cast<const BFloat16*>(bf16.bytes());
  std::transform(bits, bits + bf16.num_elements(), widened.view().f32().begin(),
                 [](BFloat16 value) {
                   return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
                 });
  return widened;
}

}  // namespace

void save_tensor(Backend& backend, const std::string& name, const TensorView& tensor,
                 std::vector<StateTensor>& saved) {
  if (!tensor) return;
  saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
  backend.run(ops::Download{.source = tensor, .host = saved.back().tensor});
}

void load_tensor(Backend& backend, const TensorView& host, const TensorView& target) {
  if (!target) fail("is not known");
  if (host.dtype() != target.dtype() || host.shape() != target.shape()) {
    fail("wanted {} {}, found {} {}", dtype_name(target.dtype()), target.shape().to_string(),
         dtype_name(host.dtype()), host.shape().to_string());
  }
  backend.run(ops::Upload{.host = host, .target = target});
}

void load_activations(Backend& backend, const TensorView& host, const TensorView& target) {
  const bool is_same = !target || host.dtype() == target.dtype();
  const bool is_float = host.dtype() == DType::kF32 || host.dtype() == DType::kBF16;
  if (is_same || !is_float || host.shape() != target.shape())
    return load_tensor(backend, host, target);
  if (host.dtype() == DType::kBF16) return load_tensor(backend, widen(host), target);
  const Tensor wide(DType::kF32, host.shape(), backend.allocator());
  backend.run(ops::Upload{.host = host, .target = wide});
  backend.run(ops::Copy{.source = wide, .target = target});
}

}  // namespace mochi
