#include "cli/interrupt.h"

#include <array>
#include <atomic>
#include <csignal>

namespace mochi::cli {
namespace {

std::atomic<int> s_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");

void remember(int signal) { s_signal = signal; }

}  // namespace

void install_interrupt_handlers() {
  for (const int signal : std::array{SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    // What the parent had ignored (nohup) stays ignored.
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = remember;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    ::sigaction(signal, &action, nullptr);
  }
}

int interrupt_signal() { return s_signal; }

}  // namespace mochi::cli
