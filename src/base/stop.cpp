#include "base/stop.h"

#include <poll.h>

#include <cerrno>

#include "base/error.h"

namespace mochi {
namespace {

constexpr int kPollMilliseconds = 100;
constexpr int kPauseMilliseconds = 20;

void throw_if_stopped(const StopFn& should_stop) {
  if (should_stop && should_stop()) throw Cancelled();
}

}  // namespace

void await_ready(int descriptor, short events, const StopFn& should_stop) {
  pollfd entry{.fd = descriptor, .events = events, .revents = 0};
  for (;;) {
    throw_if_stopped(should_stop);
    const int num_ready = ::poll(&entry, 1, should_stop ? kPollMilliseconds : -1);
    if (num_ready > 0) return;
    if (num_ready < 0 && errno != EINTR) fail("cannot wait: {}", describe_errno(errno));
  }
}

void pause_between_attempts(const StopFn& should_stop) {
  throw_if_stopped(should_stop);
  ::poll(nullptr, 0, kPauseMilliseconds);
}

}  // namespace mochi
