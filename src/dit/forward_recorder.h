// What a forward asks of the backend is the same at every step, if its policy is dense: asked for
// once, it is kept and asked for again in one piece.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "backend/backend.h"
#include "sparsity/attention_policy.h"

namespace mochi {

class ForwardRecorder {
 public:
  // The memory that the work of a call reads and writes, apart from weights and scratch.
  using Key = std::array<const std::byte*, 4>;

  // Does `work`, which is the same for equal keys of a branch. The first time as it is, so that
  // memory is found; from the second time on from a recording.
  void run(Backend& backend, Branch branch, const Key& key, const std::function<void()>& work);

 private:
  struct Entry {
    Key key{};
    bool has_run = false;
    std::unique_ptr<Recording> recording;
  };
  std::array<Entry, 2> entries_;  // of each branch
};

}  // namespace mochi
