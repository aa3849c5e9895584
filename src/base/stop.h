// Blocking calls that a caller can end.
#pragma once

#include <functional>

namespace mochi {

// Returns true if a call should end with Cancelled. Blocking calls ask about ten times a second and
// whenever a signal arrives; the networks ask between their blocks. An empty function never does.
using StopFn = std::function<bool()>;

// Returns when one of poll()'s events has happened on the descriptor, or an error that the next
// call on it will report. Throws Cancelled.
void await_ready(int descriptor, short events, const StopFn& should_stop);

// One short pause between two attempts. Throws Cancelled.
void pause_between_attempts(const StopFn& should_stop);

}  // namespace mochi
