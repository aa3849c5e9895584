#include "tensor/tensor.h"

#include <cstdlib>

#include "base/error.h"

namespace mochi {

std::size_t TensorView::size_bytes() const {
  return static_cast<std::size_t>(num_elements()) * dtype_bytes(dtype_);
}

std::span<float> TensorView::f32() const {
  if (dtype_ != DType::kF32) {
    throw Error(std::string("tensor is ") + dtype_name(dtype_) + ", wanted F32");
  }
  return {reinterpret_cast<float*>(data_), static_cast<std::size_t>(num_elements())};
}

TensorView TensorView::rows(std::int64_t begin, std::int64_t end) const {
  if (rank() == 0 || begin < 0 || begin > end || end > dim(0)) {
    throw Error("rows " + std::to_string(begin) + " to " + std::to_string(end) + " of a tensor " +
                shape_.to_string());
  }
  std::array<std::int64_t, Shape::kMaxRank> sizes{};
  std::copy(shape_.sizes().begin(), shape_.sizes().end(), sizes.begin());
  const std::int64_t row_elements = dim(0) == 0 ? 0 : num_elements() / dim(0);
  sizes[0] = end - begin;
  const Shape shape(std::span<const std::int64_t>(sizes.data(), static_cast<std::size_t>(rank())));
  const std::size_t offset = static_cast<std::size_t>(begin * row_elements) * dtype_bytes(dtype_);
  return {data_ + offset, dtype_, shape, device_};
}

TensorView TensorView::reshape(const Shape& shape) const {
  if (shape.num_elements() != num_elements()) {
    throw Error("cannot view " + shape_.to_string() + " as " + shape.to_string());
  }
  return {data_, dtype_, shape, device_};
}

namespace {

class HostAllocator final : public Allocator {
 public:
  explicit HostAllocator(Device device) : device_(device) {}

  void* allocate(std::size_t num_bytes) override {
    constexpr std::size_t kBlockAlignment = 256;
    const std::size_t rounded = (num_bytes + kBlockAlignment) / kBlockAlignment * kBlockAlignment;
    void* block = std::aligned_alloc(kBlockAlignment, rounded);
    if (block == nullptr) {
      throw OutOfMemory("out of memory: wanted " + std::to_string(num_bytes) +
                        " bytes on the host");
    }
    return block;
  }
  void deallocate(void* block) noexcept override { std::free(block); }
  Device device() const override { return device_; }

 private:
  Device device_;
};

}  // namespace

Allocator& host_allocator() {
  static HostAllocator allocator{Device::cpu()};
  return allocator;
}

std::unique_ptr<Allocator> make_host_allocator(Device device) {
  return std::make_unique<HostAllocator>(device);
}

Tensor::Tensor(DType dtype, const Shape& shape, Allocator& allocator)
    : block_(nullptr, Deleter{&allocator}) {
  const std::size_t num_bytes = static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
  block_.reset(allocator.allocate(num_bytes));
  view_ = TensorView(block_.get(), dtype, shape, allocator.device());
}

}  // namespace mochi
