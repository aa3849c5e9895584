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
  if (entry.recording && entry.recording->replay()) return;
  entry.recording.reset();
  entry.recording = backend.record(work);
}

}  // namespace mochi
