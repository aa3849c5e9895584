// Shows the progress of a running call, for every command, and ends the call after a signal.
#pragma once

#include "cli/interrupt.h"
#include "cli/progress_display.h"
#include "mochi/mochi.h"

namespace mochi::cli {

class CommandObserver : public Observer {
 public:
  // `display` must outlive the observer.
  explicit CommandObserver(ProgressDisplay& display) : display_(display) {}

  bool on_progress(const Progress& progress) override {
    display_.show(progress);
    return !was_interrupted();
  }
  // Also advances the clock.
  bool should_stop() override {
    display_.tick();
    return was_interrupted();
  }

 private:
  ProgressDisplay& display_;
};

// Prints the engine's warnings and decisions on standard error; with is_verbose, also details of
// how it works; with is_quiet, nothing.
MessageFn message_printer(bool is_quiet, bool is_verbose);

}  // namespace mochi::cli
