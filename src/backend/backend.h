// All computation of the model, as coarse operations that mean something to it. An operation is a
// value: a struct in ops/ with named fields, whose contract is stated there. run() checks it once
// for all backends, which may rely on it.
//
// Unless an operation states otherwise: tensors are contiguous and on this backend's device;
// activations have dtype activation_dtype(); matrix weights are F32 or BF16 on the CPU and of the
// activation dtype on a GPU, or stored in a smaller type, from which they are widened for the
// operation; biases, norm weights and tables are F32; sums are accumulated in fp32; inputs and
// outputs do not overlap. A violated contract throws an Error that names the operation and the
// shapes.
//
// A GPU runs the operations in the order of the calls, but the calls return earlier. ops::Download,
// ops::ToRgb8 and DeviceRuntime::synchronize() wait for it. Memory may be freed at any time,
// because freeing waits, too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "backend/device_runtime.h"
#include "backend/op_table.h"
#include "base/stop.h"
#include "tensor/arena.h"

namespace mochi {

class Backend : public OpTable<> {
 public:
  explicit Backend(std::shared_ptr<DeviceRuntime> device) : device_(std::move(device)) {}

  const std::shared_ptr<DeviceRuntime>& shared_device() const { return device_; }
  DeviceRuntime& device() const { return *device_; }
  Allocator& allocator() const { return device_->allocator(); }
  DType activation_dtype() const { return device_->activation_dtype(); }

  // Checks the operation's contract and launches it.
  template <class Op>
  void run(const Op& op) {
    check(op);
    if constexpr (requires { op.is_empty(); }) {
      if (op.is_empty()) return;
    }
    if (has_stored_matrix(op)) {
      do_run(with_dense_matrices(op));
    } else {
      do_run(op);
    }
  }

 private:
  template <class Op>
  void check(const Op& op) const {
    const Contract contract(Op::kName, device_->device(), activation_dtype());
    visit_fields(op, Checker{contract});
    op.check(contract);
  }

  // Visitor: checks every operand.
  struct Checker {
    const Contract& contract;
    void operator()(const char* name, Role role, const auto& view) const {
      contract.operand(name, role, view);
    }
    void operator()(const char* /*name*/, const auto& /*value*/) const {}
  };

  template <class Op>
  static bool has_stored_matrix(const Op& op) {
    bool is_found = false;
    visit_fields(op, StoredFinder{is_found});
    return is_found;
  }
  // Visitor: looks for a matrix that has to be widened.
  struct StoredFinder {
    bool& is_found;
    void operator()(const char* /*name*/, Role /*role*/, const InMatrix& matrix) const {
      if (matrix.is_stored()) is_found = true;
    }
    void operator()(const char* /*name*/, Role /*role*/, const auto& /*view*/) const {}
    void operator()(const char* /*name*/, const auto& /*value*/) const {}
  };

  // The matrix is valid until the next call.
  template <class Op>
  Op with_dense_matrices(Op op) {
    visit_fields(op, Widener{*this});
    return op;
  }
  // Visitor: replaces stored matrices by dense ones.
  struct Widener {
    Backend& backend;
    void operator()(const char* /*name*/, Role /*role*/, InMatrix& matrix) const {
      if (matrix.is_stored()) matrix = backend.widened(matrix);
    }
    void operator()(const char* /*name*/, Role /*role*/, auto& /*view*/) const {}
    void operator()(const char* /*name*/, auto& /*value*/) const {}
  };
  TensorView widened(const MatrixView& matrix);

  std::shared_ptr<DeviceRuntime> device_;
  Tensor dense_memory_;  // holds the last widened matrix
};

struct BackendOptions {
  // Ignored by the CPU backend, which computes in fp32.
  DType activation_dtype = DType::kBF16;  // or F32
  std::uint64_t memory_limit_bytes = 0;   // limit of device memory; 0: no limit
  // Leaves out the kernels that only one architecture has, for tests and comparisons.
  bool is_portable = false;
  // A cudaStream_t of the device, on which the operations are launched. It must outlive the
  // backend. Null: a stream of the backend's own.
  void* external_stream = nullptr;
};

// Creates the backend of a device. Throws Error with the reason if this build or machine has none.
std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options = {});

// Returns one line that says why there is no CUDA backend, or an empty string if there is one.
std::string find_cuda_problem();
// Returns how many GPUs this machine has; 0 if find_cuda_problem() has found one.
int count_gpus();

// Allocates `memory` again if it is smaller than this, and returns where it is.
std::byte* grow(Tensor& memory, std::size_t num_bytes, Allocator& allocator);

// The first argument of every function that computes.
struct Context {
  Backend& backend;
  Arena& scratch;
  const StopFn* should_stop = nullptr;  // null: nobody can stop the work

  // Checks an operation's contract and launches it.
  template <class Op>
  void run(const Op& op) const {
    backend.run(op);
  }
  // Throws Cancelled when the work should stop. For the pauses between the blocks of a network,
  // outside graph capture.
  void check_stop() const;
  TensorView activation(const Shape& shape) const {  // allocates scratch of the activation dtype
    return scratch.allocate(backend.activation_dtype(), shape);
  }
  // Allocates scratch for rows that a product with `weight` takes.
  MatrixView rows_for(const MatrixView& weight, std::int64_t num_rows) const {
    const Shape shape{num_rows, weight.dim(1)};
    if (!weight.is_quantised()) return activation(shape);
    return {scratch.allocate(weight.dtype(), shape), scratch.allocate(DType::kF32, {num_rows})};
  }
};

}  // namespace mochi
