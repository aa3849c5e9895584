// Captured operations, as a CUDA graph.
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_check.h"

namespace mochi {
namespace {

class CudaGraph final : public CapturedGraph {
 public:
  // `memories` are those of the backend that operations use.
  CudaGraph(cudaGraph_t graph, cudaStream_t stream, std::span<const Tensor* const> memories)
      : stream_(stream) {
    for (const Tensor* memory : memories) memories_.emplace_back(memory, memory->view().bytes());
    const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    cuda::check(code, "instantiating a graph");
  }
  ~CudaGraph() override {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  bool replay() override {
    for (const auto& [memory, captured] : memories_) {
      if (memory->view().bytes() != captured) return false;
    }
    cuda::check(cudaGraphLaunch(graph_, stream_), "launching a graph");
    return true;
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
  std::vector<std::pair<const Tensor*, const std::byte*>> memories_;  // where they were at capture
};

}  // namespace

std::unique_ptr<CapturedGraph> CudaBackend::capture(const std::function<void()>& fn) {
  cuda::check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
              "beginning graph capture");
  cudaGraph_t graph = nullptr;
  try {
    fn();
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // clears the error, which the exception reports
    throw;
  }
  cuda::check(cudaStreamEndCapture(stream_, &graph), "ending graph capture");
  const std::array<const Tensor*, 3> memories{&workspace_, &dense_memory_, &conv_memory_};
  auto captured = std::make_unique<CudaGraph>(graph, stream_, memories);
  captured->replay();
  return captured;
}

}  // namespace mochi
