// Blocking calls that a caller can end.
#pragma once

#include <functional>

#include "base/error.h"

namespace mochi {

// Asked about ten times a second while a call blocks, and whenever a signal arrives: true ends the
// call. An empty one never does.
using StopFn = std::function<bool()>;

// A blocking call was ended by its StopFn.
class Stopped : public Error {
 public:
  Stopped() : Error("stopped") {}
};

// Returns when one of poll()'s events has happened on the descriptor, or an error that the next
// call on it will report. Throws Stopped.
void await_ready(int descriptor, short events, const StopFn& should_stop);

// One short pause between two attempts. Throws Stopped.
void pause_between_attempts(const StopFn& should_stop);

}  // namespace mochi
