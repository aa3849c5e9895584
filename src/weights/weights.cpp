#include "weights/weights.h"

#include <cmath>

#include "base/error.h"
#include "base/noise.h"
#include "io/convert.h"

namespace mochi {

void require_weight(const TensorSource& source, const std::string& name, const Shape& shape) {
  const TensorInfo found = source.require(name, shape);
  if (is_float(found.dtype)) return;
  fail("tensor '{}' in '{}': wanted weights, found {}", name, found.origin,
       dtype_name(found.dtype));
}

void LinearWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                          std::int64_t out_features, std::int64_t in_features, bool has_bias) {
  visitor(prefix + ".weight", weight, {out_features, in_features}, WeightRole::kMatrix);
  if (has_bias) visitor(prefix + ".bias", bias, {out_features}, WeightRole::kVector);
}

TensorView WeightStore::allocate(const Shape& shape, WeightRole role) {
  const DType dtype = role == WeightRole::kMatrix ? matrix_dtype_ : DType::kF32;
  const TensorView& view = tensors_.emplace_back(dtype, shape, backend_.allocator()).view();
  num_parameters_ += view.num_elements();
  size_bytes_ += view.size_bytes();
  return view;
}

void WeightStore::load_one(const TensorSource& source, const std::string& name, TensorView& member,
                           const Shape& shape, WeightRole role) {
  require_weight(source, name, shape);
  member = allocate(shape, role);
  source.read(name, member);
}

void WeightStore::init_one(std::uint64_t seed, const std::string& name, TensorView& member,
                           const Shape& shape, WeightRole role) {
  std::vector<float> values(static_cast<std::size_t>(shape.num_elements()));
  fill_normal(NoiseSource::kMochi, seed, values);
  float scale = 0.1F;
  float offset = 1.0F;
  if (role == WeightRole::kMatrix) {
    scale = std::sqrt(static_cast<float>(shape[0]) / static_cast<float>(shape.num_elements()));
    offset = 0.0F;
  } else if (name.ends_with("bias")) {
    scale = 0.02F;
    offset = 0.0F;
  }
  for (float& value : values) value = offset + scale * value;

  member = allocate(shape, role);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
  if (member.dtype() == DType::kBF16) {
    convert_to_bf16(DType::kF32, bytes,
                    {reinterpret_cast<BFloat16*>(member.bytes()), values.size()});
  } else {
    convert_to_f32(DType::kF32, bytes, member.f32());
  }
}

}  // namespace mochi
