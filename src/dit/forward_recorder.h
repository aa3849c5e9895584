// Captures the backend operations of a forward pass and replays them at later steps that need the
// same operations.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "sparsity/attention_policy.h"

namespace mochi {

class ForwardRecorder {
 public:
  struct Key {
    // Addresses that the pass reads and writes, apart from weights and scratch.
    std::array<const std::byte*, 4> memory{};
    std::uint64_t scratch_epoch = 0;
    RecordingKey of_policy = {};
    bool operator==(const Key&) const = default;
  };

  // Runs `work`, which must be equal for equal keys of a branch: directly the first time, which
  // allocates; captured the second time; replayed after that. Only the most recent key of each kind
  // is kept.
  void run(Backend& backend, Branch branch, const Key& key, const std::function<void()>& work);

 private:
  struct Entry {
    Key key;
    bool has_run = false;
    std::unique_ptr<CapturedGraph> graph;
  };
  std::map<std::pair<Branch, std::uint32_t>, Entry> entries_;  // by branch and kind of step
};

}  // namespace mochi
