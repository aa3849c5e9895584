// Handle of a copy in the background.
#pragma once

#include <memory>
#include <utility>

namespace mochi {

// A copy between host and device that DeviceRuntime::start_copy() has started. An ops::Await orders
// it before the operations that follow. If nothing awaits it, both memories must stay valid until
// the device is synchronized. It must not outlive its device.
class Transfer {
 public:
  // The copy as its device knows it.
  class State {
   public:
    virtual ~State() = default;
    virtual void await() = 0;
  };

  Transfer() = default;  // nothing is in progress
  explicit Transfer(std::unique_ptr<State> state) : state_(std::move(state)) {}

  bool is_pending() const { return state_ != nullptr; }
  // For backends; others run an ops::Await.
  void await() {
    if (state_) state_->await();
    state_.reset();
  }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace mochi
