#include "dit/forward_recorder.h"

namespace mochi {

void ForwardRecorder::run(DeviceRuntime& device, Branch branch, const GraphKey& key,
                          const std::function<void()>& work) {
  const auto [found, is_new] = entries_.try_emplace({branch, key.kind});
  Entry& entry = found->second;
  const std::uint64_t epoch = device.memory_epoch();
  if (is_new || entry.version != key.version || entry.memory_epoch != epoch) {
    entry = {};
    work();
    entry.version = key.version;
    entry.memory_epoch = device.memory_epoch();
  } else if (entry.graph) {
    entry.graph->replay();
  } else {
    entry.graph = device.capture(work);
  }
}

}  // namespace mochi
