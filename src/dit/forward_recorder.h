// Captures the operations of a forward pass and replays them at later steps that need the same
// operations.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "dit/block_policy.h"

namespace mochi {

// For the passes of one generation, which read and write the same tensors.
class ForwardRecorder {
 public:
  // Runs `work`, which must launch the same operations for equal keys of a branch: directly the
  // first time, which allocates; captured the second time; replayed after that. If memory of the
  // device was allocated or freed in between, it begins again. Only the latest version of each kind
  // is kept.
  void run(DeviceRuntime& device, Branch branch, const GraphKey& key,
           const std::function<void()>& work);

 private:
  struct Entry {
    std::uint32_t version = 0;
    std::uint64_t memory_epoch = 0;  // after the last pass that allocated
    std::unique_ptr<CapturedGraph> graph;
  };
  std::map<std::pair<Branch, std::uint32_t>, Entry> entries_;  // by branch and kind of step
};

}  // namespace mochi
