// What a forward asks of the backend is often the same at the next step: asked for once, it is kept
// and asked for again in one piece.
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
    // That the work of a call reads and writes, apart from weights and scratch.
    std::array<const std::byte*, 4> memory{};
    std::uint64_t scratch_epoch = 0;
    RecordingKey of_policy = {};
    bool operator==(const Key&) const = default;
  };

  // Does `work`, which is the same for equal keys of a branch. The first time as it is, so that
  // memory is found; from the second time on from a recording. Of each kind the last key counts.
  void run(Backend& backend, Branch branch, const Key& key, const std::function<void()>& work);

 private:
  struct Entry {
    Key key;
    bool has_run = false;
    std::unique_ptr<Recording> recording;
  };
  std::map<std::pair<Branch, std::uint32_t>, Entry> entries_;  // of each branch and kind
};

}  // namespace mochi
