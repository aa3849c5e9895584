#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/copy_stream.h"
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device_allocator.h"
#include "backend/cuda/make_cuda_backend.h"
#include "backend/cuda/pinned_memory.h"
#include "backend/cuda/staged_loader.h"
#include "backend/cuda_facts.h"
#include "base/error.h"

namespace mochi {

namespace cuda {

void fail_cuda(cudaError_t code, const char* what) {
  fail("GPU: {}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
}

}  // namespace cuda

using cuda::check;

std::string find_cuda_problem() {
  CudaFacts facts;
  cudaDriverGetVersion(&facts.driver_version);
  cudaRuntimeGetVersion(&facts.runtime_version);
  cudaError_t code = cudaGetDeviceCount(&facts.num_gpus);
  facts.has_new_enough_driver = code != cudaErrorInsufficientDriver;
  cudaGetLastError();  // clears the error, or the next call would report it again
  const bool is_answer =
      code == cudaSuccess || code == cudaErrorInsufficientDriver || code == cudaErrorNoDevice;
  if (is_answer && facts.num_gpus > 0) {
    cudaDeviceProp properties{};
    code = cudaGetDeviceProperties(&properties, 0);
    facts.gpu_name = properties.name;
    facts.compute_major = properties.major;
    facts.compute_minor = properties.minor;
  }
  if (is_answer && (facts.num_gpus == 0 || code == cudaSuccess)) return find_problem(facts);
  return std::string("the GPU does not answer: ") + cudaGetErrorString(code);
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  const std::string problem = find_cuda_problem();
  if (!problem.empty()) throw InvalidRequest("device", problem);
  return std::make_unique<CudaBackend>(options);
}

CudaBackend::CudaBackend(const BackendOptions& options)
    : activation_dtype_(options.activation_dtype),
      allocator_(std::make_unique<cuda::DeviceAllocator>(options.memory_limit_bytes)) {
  if (activation_dtype_ != DType::kBF16 && activation_dtype_ != DType::kF32) {
    fail("activations: wanted BF16 or F32, found {}", dtype_name(activation_dtype_));
  }
  check(cudaGetDeviceProperties(&properties_, 0), "querying the GPU's properties");
  is_hopper_ = properties_.major == 9 && !options.is_portable;
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
  cublaslt_ = std::make_unique<cuda::CublasLt>(*allocator_);
}

CudaBackend::~CudaBackend() {
  if (stream_ == nullptr) return;
  prefetches_.reset();
  write_backs_.reset();
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

Allocator& CudaBackend::allocator() { return *allocator_; }

DeviceMemory CudaBackend::memory() const { return allocator_->memory(); }

void CudaBackend::restart_peak() { allocator_->restart_peak(); }

Allocator& CudaBackend::staging_allocator() { return cuda::pinned_allocator(); }

std::unique_ptr<WeightLoader> CudaBackend::make_weight_loader() {
  return std::make_unique<cuda::StagedLoader>(*allocator_);
}

void CudaBackend::do_prefetch(int slot, const TensorView& host, const TensorView& target) {
  if (!prefetches_) prefetches_ = std::make_unique<cuda::CopyStream>();
  prefetches_->start(slot, host, target, stream_);
}

void CudaBackend::do_await_prefetch(int slot) {
  if (prefetches_) prefetches_->await(slot, stream_);
}

void CudaBackend::do_write_back(int slot, const TensorView& source, const TensorView& host) {
  if (!write_backs_) write_backs_ = std::make_unique<cuda::CopyStream>();
  write_backs_->start(slot, source, host, stream_);
}

void CudaBackend::do_await_write_back(int slot) {
  if (write_backs_) write_backs_->await(slot, stream_);
}

void CudaBackend::do_synchronize() { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }

void CudaBackend::do_upload(const TensorView& host, const TensorView& target) {
  check(cudaMemcpyAsync(target.bytes(), host.bytes(), host.size_bytes(), cudaMemcpyHostToDevice,
                        stream_),
        "copying to the GPU");
  check(cudaStreamSynchronize(stream_), "copying to the GPU");
}

void CudaBackend::do_download(const TensorView& source, const TensorView& host) {
  check(cudaMemcpyAsync(host.bytes(), source.bytes(), host.size_bytes(), cudaMemcpyDeviceToHost,
                        stream_),
        "copying from the GPU");
  check(cudaStreamSynchronize(stream_), "copying from the GPU");
}

}  // namespace mochi
