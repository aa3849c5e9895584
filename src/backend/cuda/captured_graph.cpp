#include "backend/cuda/captured_graph.h"

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/device_scope.h"

namespace mochi::cuda {
namespace {

cudaGraph_t capture_graph(cudaStream_t stream, const std::function<void()>& fn) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
        "beginning graph capture");
  cudaGraph_t graph = nullptr;
  try {
    fn();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // clears the error, which the exception reports
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "ending graph capture");
  return graph;
}

}  // namespace

CudaGraph::CudaGraph(int device_index, cudaStream_t stream, const std::function<void()>& fn)
    : device_index_(device_index), stream_(stream) {
  const DeviceScope scope(device_index_);
  const cudaGraph_t graph = capture_graph(stream, fn);
  const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(code, "instantiating a graph");
}

CudaGraph::~CudaGraph() {
  const DeviceScope scope(device_index_, std::nothrow);
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

void CudaGraph::replay() {
  const DeviceScope scope(device_index_);
  check(cudaGraphLaunch(graph_, stream_), "launching a graph");
}

}  // namespace mochi::cuda
