// Captured operations, as a CUDA graph.
#include <utility>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_check.h"

namespace mochi {
namespace {

class GraphRecording final : public Recording {
 public:
  // `workspace` is the backend's working memory now; `recorded_workspace_` is where it was at
  // capture.
  GraphRecording(cudaGraph_t graph, cudaStream_t stream, const Tensor& workspace)
      : stream_(stream), workspace_(workspace), recorded_workspace_(workspace.view().bytes()) {
    const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    cuda::check(code, "instantiating a graph");
  }
  ~GraphRecording() override {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  }
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;

  bool replay() override {
    if (workspace_.view().bytes() != recorded_workspace_) return false;
    cuda::check(cudaGraphLaunch(graph_, stream_), "launching a graph");
    return true;
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
  const Tensor& workspace_;
  const std::byte* recorded_workspace_;
};

}  // namespace

std::unique_ptr<Recording> CudaBackend::record(const std::function<void()>& fn) {
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
  auto recording = std::make_unique<GraphRecording>(graph, stream_, workspace_);
  recording->replay();
  return recording;
}

}  // namespace mochi
