// What every command shows of a running call, and that a signal ends it.
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
    return !should_stop();
  }
  bool should_stop() override { return interrupt_signal() != 0; }

 private:
  ProgressDisplay& display_;
};

// Prints the engine's warnings to stderr, and what explains its decisions unless it should be
// quiet.
MessageFn message_printer(bool is_quiet);

}  // namespace mochi::cli
