// One GPU of compute capability 8.0 or newer, with activations in BF16 or F32. All operations are
// launched on one stream. cuBLASLt computes most matmuls; all other kernels are in this repository:
// kernels/ holds the bandwidth-bound ones and the portable attention, sm90/ those that need Hopper.
// Results are bit-identical in every run on one GPU model.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/background_copies.h"
#include "backend/cuda/stream.h"

namespace mochi::cuda {

class CublasLt;
class DeviceAllocator;

class Gpu final : public DeviceRuntime {
 public:
  // `index` is CUDA's number of the GPU, which must exist.
  Gpu(int index, const BackendOptions& options);
  ~Gpu() override;
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  Device device() const override { return Device::cuda(index_); }
  std::string name() const override { return properties_.name; }
  DType activation_dtype() const override { return activation_dtype_; }
  DType preferred_matrix_dtype() const override { return activation_dtype_; }
  // At 848×480 the last blocks process 1.9 GB of frames at a time, in slices of 1 GB. Two more
  // latent frames would make decoding 1.5 % faster and take 2 GB more.
  ChunkSizes preferred_chunks() const override {
    return {.latent_frames = 3, .slice_elements = std::int64_t{1} << 29};
  }
  void* native_stream() const override { return stream_; }
  Allocator& allocator() override;
  Allocator& staging_allocator() override;  // returns pinned memory
  DeviceMemory memory() const override;
  void restart_peak() override;
  std::uint64_t memory_epoch() const override;
  std::unique_ptr<WeightLoader> make_weight_loader() override;
  Transfer start_copy(const TensorView& source, const TensorView& target) override;
  void synchronize() override;
  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override;

  // ---- for operations, which run while this GPU is the current one ----

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  const cudaDeviceProp& properties() const { return properties_; }
  bool is_hopper() const { return is_hopper_; }  // true if the kernels of sm90/ run here
  int num_multiprocessors() const { return properties_.multiProcessorCount; }
  CublasLt& cublaslt() { return *cublaslt_; }
  // Memory for use within one operation. Valid until the next operation that calls workspace().
  std::byte* workspace(std::size_t num_bytes);
  // Memory for the weights and patches of a convolution, which survives a nested operation's use of
  // workspace().
  std::byte* conv_memory(std::size_t num_bytes);

 private:
  int index_;
  DType activation_dtype_;
  cudaDeviceProp properties_{};
  bool is_hopper_;
  std::unique_ptr<DeviceAllocator> allocator_;
  Stream stream_;
  std::unique_ptr<CublasLt> cublaslt_;
  Tensor workspace_, conv_memory_;
  BackgroundCopies copies_;  // destroyed first, because its streams may still use memory
};

// Launches an operation, whose contract was checked. The source of its kernels instantiates this
// template (see implement.h).
template <class Op>
void compute(Gpu& gpu, const Op& op);

}  // namespace mochi::cuda
