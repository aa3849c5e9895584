#include "dit/forward_recorder.h"

namespace mochi {

void ForwardRecorder::run(Backend& backend, Branch branch, const Key& key,
                          const std::function<void()>& work) {
  Entry& entry = entries_[{branch, key.of_policy.kind}];
  if (!entry.has_run || entry.key != key) {
    entry = {key, true, nullptr};
    work();
    return;
  }
  if (entry.graph && entry.graph->replay()) return;
  entry.graph.reset();
  entry.graph = backend.capture(work);
}

}  // namespace mochi
