// Blocks a signal that a system call raises in addition to returning an error.
#pragma once

#include <cerrno>
#include <csignal>
#include <ctime>

namespace mochi {

// While it lives, the signal does not reach this thread, and the call that raised it only fails:
// a write to a closed pipe with EPIPE instead of SIGPIPE, a write beyond `ulimit -f` with EFBIG
// instead of SIGXFSZ. A signal raised meanwhile is discarded.
class SignalBlock {
 public:
  explicit SignalBlock(int signal) {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, signal) == 1;
    sigemptyset(&blocked_);
    sigaddset(&blocked_, signal);
    pthread_sigmask(SIG_BLOCK, &blocked_, &old_mask_);
  }
  ~SignalBlock() {
    if (!was_pending_) {
      const timespec no_wait{};
      while (sigtimedwait(&blocked_, nullptr, &no_wait) == -1 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t blocked_{};
  sigset_t old_mask_{};
  bool was_pending_ = false;
};

}  // namespace mochi
