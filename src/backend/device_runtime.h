// The services of a device besides operations: memory, copies in the background, weight loading and
// graph capture. Backends that wrap another one share its runtime.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "backend/transfer.h"
#include "tensor/tensor.h"

namespace mochi {

// Preferred chunk sizes of the VAE. Larger chunks need more memory and keep a GPU busy; on a CPU
// they are not faster.
struct ChunkSizes {
  std::int64_t latent_frames = 1;                       // number of latent frames decoded at a time
  std::int64_t slice_elements = std::int64_t{1} << 23;  // size of each scratch tensor in a block
};

// Memory use of a GPU. All zero on the CPU.
struct DeviceMemory {
  std::uint64_t used_bytes = 0;       // allocated by this device's tensors
  std::uint64_t peak_bytes = 0;       // maximum of used_bytes since the start or restart_peak()
  std::uint64_t available_bytes = 0;  // still free, within the limit
};

// Copies stored weights to the device asynchronously, in an unspecified order. Not thread-safe.
class WeightLoader {
 public:
  virtual ~WeightLoader() = default;
  // Fills target (on the device) with stored elements of any alignment: floats of any dtype for F32
  // or BF16, otherwise those of the target's dtype.
  // `bytes` may be freed when the call returns.
  virtual void load(DType stored, std::span<const std::byte> bytes, const TensorView& target) = 0;
  // Waits until all targets are filled. Throws Error if a copy failed.
  virtual void finish() = 0;
};

// A captured sequence of operations (a CUDA graph) that can be launched again with one call.
class CapturedGraph {
 public:
  virtual ~CapturedGraph() = default;
  // Launches the captured operations on the memory they were captured with, which must still be
  // there: DeviceRuntime::memory_epoch() must be what it was.
  virtual void replay() = 0;
};

class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  virtual Device device() const = 0;
  virtual std::string name() const = 0;  // "CPU", or the GPU's name
  virtual DType activation_dtype() const = 0;
  // The dtype of matrix weights, F32 or BF16, whose matmuls are fastest here.
  virtual DType preferred_matrix_dtype() const = 0;
  virtual ChunkSizes preferred_chunks() const = 0;

  // The cudaStream_t on which operations are launched; null on the CPU.
  virtual void* native_stream() const = 0;
  virtual Allocator& allocator() = 0;
  // Allocator of the host memory from which copies to the device are fastest.
  virtual Allocator& staging_allocator() = 0;
  virtual DeviceMemory memory() const = 0;
  virtual void restart_peak() = 0;
  // A number that changes whenever memory of the device is allocated or freed. While it stays the
  // same, so do the addresses of all tensors. Constant where nothing is captured.
  virtual std::uint64_t memory_epoch() const = 0;

  // Returns null if the host should read weights directly into their tensors.
  virtual std::unique_ptr<WeightLoader> make_weight_loader() = 0;
  // Starts to copy between host and device (same dtype and size) in the background: after all
  // operations launched so far, concurrently with those launched next. Until the transfer is
  // awaited, the source must not change and the target must not be used. Values copied to the host
  // are there after a later synchronize().
  virtual Transfer start_copy(const TensorView& source, const TensorView& target) = 0;
  // Waits until all operations launched so far are complete. Throws Error if one failed.
  virtual void synchronize() = 0;
  // Runs `fn` and captures the operations it launches. `fn` must have run once before, so that
  // everything is allocated; it must not allocate, upload, download or synchronize, and it must
  // await the copies it starts. Returns null if capturing gains nothing on this device; then call
  // `fn` each time.
  virtual std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) = 0;
};

// Throws Error, which names `what`, unless both are of one dtype and shape and one is on the host.
void check_copy(const char* what, const TensorView& source, const TensorView& target);

}  // namespace mochi
