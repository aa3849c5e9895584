// Ctrl-C and its kin: the first one asks the program to stop as soon as it can do so cleanly; the
// second one ends it at once, less its half-written files.
#pragma once

namespace mochi::cli {

// The current activity of the program. It decides which line is written as soon as a signal comes.
enum class Activity { kQuiet, kWorking, kSampling };

// Also for the signal of a mapped file that became shorter while it was read: one line names the
// file, and the program ends with 1. Blocking system calls end with EINTR when a signal arrives.
// Signals that the parent process had ignored (nohup) stay ignored.
void install_interrupt_handlers();

// The signal that has arrived, or 0.
int interrupt_signal();

// Returns true if a signal has arrived: the StopFn of calls that may block.
bool was_interrupted();

// Readable from the first signal on, for poll(); -1 where the system gave none.
int interrupt_descriptor();

// Before the first call the program is quiet.
void set_activity(Activity activity);

}  // namespace mochi::cli
