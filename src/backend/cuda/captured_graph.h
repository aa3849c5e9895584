// Captured operations, as a CUDA graph.
#pragma once

#include <cuda_runtime.h>

#include "backend/device_runtime.h"

namespace mochi::cuda {

class CudaGraph final : public CapturedGraph {
 public:
  // Captures what `fn` launches on a stream of the GPU with this index.
  CudaGraph(int device_index, cudaStream_t stream, const std::function<void()>& fn);
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void replay() override;

 private:
  int device_index_;
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace mochi::cuda
