// Views and owners of dense, row-major memory. Views are cheap values that own nothing; owners are
// move-only. Neither computes; that is the backend's task.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace mochi {

// A contiguous block of elements in row-major order of `shape`. A default view is empty (data ==
// nullptr) and means "no tensor" for an optional parameter.
class TensorView {
 public:
  TensorView() = default;
  TensorView(void* data, DType dtype, const Shape& shape, Device device = {})
      : data_(static_cast<std::byte*>(data)), shape_(shape), dtype_(dtype), device_(device) {}

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* bytes() const { return data_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t dim(int index) const { return shape_[index]; }
  std::int64_t num_elements() const { return shape_.num_elements(); }
  std::size_t size_bytes() const;

  // Returns the elements as host floats. Throws Error if the dtype is not F32.
  std::span<float> f32() const;

  // Returns rows [begin, end) of the first dimension.
  TensorView rows(std::int64_t begin, std::int64_t end) const;
  // Returns a view of the same elements under another shape of equal size.
  TensorView reshape(const Shape& shape) const;

 private:
  std::byte* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::kF32;
  Device device_;
};

// The memory source of one device's tensors. Blocks are aligned to 256 bytes.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual void* allocate(std::size_t num_bytes) = 0;  // throws Error if memory is exhausted
  virtual void deallocate(void* block) noexcept = 0;
  virtual Device device() const = 0;
};

// Memory of the host, which is that of Device::cpu().
Allocator& host_allocator();
// Memory of the host as that of another CPU device.
std::unique_ptr<Allocator> make_host_allocator(Device device);

// Owner of one block. Its initial contents are undefined.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, const Shape& shape, Allocator& allocator = host_allocator());

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT: an owner is usable as its view
  explicit operator bool() const { return static_cast<bool>(view_); }

 private:
  struct Deleter {
    Allocator* allocator;
    void operator()(void* block) const noexcept { allocator->deallocate(block); }
  };
  std::unique_ptr<void, Deleter> block_{nullptr, Deleter{nullptr}};
  TensorView view_;
};

}  // namespace mochi
