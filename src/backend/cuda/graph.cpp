// Captured operations, as a CUDA graph.
#include <utility>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_check.h"

namespace mochi {
namespace {

class CudaGraph final : public CapturedGraph {
 public:
  // `workspace` is the backend's working memory now; `captured_workspace_` is where it was at
  // capture.
  CudaGraph(cudaGraph_t graph, cudaStream_t stream, const Tensor& workspace)
      : stream_(stream), workspace_(workspace), captured_workspace_(workspace.view().bytes()) {
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
    if (workspace_.view().bytes() != captured_workspace_) return false;
    cuda::check(cudaGraphLaunch(graph_, stream_), "launching a graph");
    return true;
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
  const Tensor& workspace_;
  const std::byte* captured_workspace_;
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
  auto captured = std::make_unique<CudaGraph>(graph, stream_, workspace_);
  captured->replay();
  return captured;
}

}  // namespace mochi
