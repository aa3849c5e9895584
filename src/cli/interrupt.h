// Ctrl-C and its kin: the first one asks the program to stop at the next step or frame, so that it
// can clear up; the second one ends it at once.
#pragma once

namespace mochi::cli {

void install_interrupt_handlers();

// The signal that came, or 0.
int interrupt_signal();

}  // namespace mochi::cli
