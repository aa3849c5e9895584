#include "backend/cuda/gpu.h"

#include "backend/cuda/captured_graph.h"
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/device_allocator.h"
#include "backend/cuda/device_scope.h"
#include "backend/cuda/pinned_memory.h"
#include "backend/cuda/staged_loader.h"
#include "base/error.h"

namespace mochi::cuda {
namespace {

DType checked_activations(DType dtype) {
  if (dtype != DType::kBF16 && dtype != DType::kF32) {
    fail("activations: wanted BF16 or F32, found {}", dtype_name(dtype));
  }
  return dtype;
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "querying the GPU's properties");
  return properties;
}

}  // namespace

Gpu::Gpu(int index, const BackendOptions& options)
    : index_(index),
      activation_dtype_(checked_activations(options.activation_dtype)),
      properties_(properties_of(index)),
      is_hopper_(properties_.major == 9 && !options.is_portable),
      allocator_(std::make_unique<DeviceAllocator>(device(), options.memory_limit_bytes)),
      stream_(index, options.external_stream),
      cublaslt_(std::make_unique<CublasLt>(*allocator_)),
      copies_(index, stream_) {}

Gpu::~Gpu() = default;

Allocator& Gpu::allocator() { return *allocator_; }

Allocator& Gpu::staging_allocator() { return pinned_allocator(index_); }

DeviceMemory Gpu::memory() const { return allocator_->memory(); }

void Gpu::restart_peak() { allocator_->restart_peak(); }

std::uint64_t Gpu::memory_epoch() const { return allocator_->epoch(); }

std::unique_ptr<WeightLoader> Gpu::make_weight_loader() {
  return std::make_unique<StagedLoader>(*allocator_);
}

Transfer Gpu::start_copy(const TensorView& source, const TensorView& target) {
  check_copy("start_copy", source, target);
  return copies_.start(source, target);
}

void Gpu::synchronize() {
  const DeviceScope scope(index_);
  check(cudaStreamSynchronize(stream_), "waiting for the GPU");
}

std::unique_ptr<CapturedGraph> Gpu::capture(const std::function<void()>& fn) {
  auto captured = std::make_unique<CudaGraph>(index_, stream_, fn);
  captured->replay();
  return captured;
}

std::byte* Gpu::workspace(std::size_t num_bytes) {
  return grow(workspace_, num_bytes, *allocator_);
}

std::byte* Gpu::conv_memory(std::size_t num_bytes) {
  return grow(conv_memory_, num_bytes, *allocator_);
}

}  // namespace mochi::cuda
