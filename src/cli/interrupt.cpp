#include "cli/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/atomic_file.h"
#include "base/mapped_file.h"

namespace mochi::cli {
namespace {

// Shared with the signal handler, which cannot be given anything.
struct Shared {
  std::atomic<int> signal{0};
  std::atomic<int> descriptor{-1};
  std::atomic<Activity> activity{Activity::kQuiet};
};
Shared s_shared;
static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");
static_assert(std::atomic<Activity>::is_always_lock_free, "read in a signal handler");

std::string_view line_of(Activity activity) {
  switch (activity) {
    case Activity::kQuiet:
      return "";
    case Activity::kWorking:
      return "\nstopping; press Ctrl-C again to quit at once\n";
    case Activity::kSampling:
      return "\nstopping after this step; press Ctrl-C again to quit at once\n";
  }
  return "";
}

void write_if_ready(int descriptor, const void* bytes, std::size_t num_bytes) {
  pollfd wanted{descriptor, POLLOUT, 0};
  if (::poll(&wanted, 1, 0) != 1) return;
  if (::write(descriptor, bytes, num_bytes) < 0) return;  // nobody can be informed
}

// Leaves no half-written file behind. The signal ends the program when its handler returns.
void end_at_once(int signal) {
  remove_parts_at_exit();
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  ::raise(signal);
}

// Calls nothing that is unsafe in a signal handler.
void remember(int signal) {
  if (s_shared.signal.exchange(signal) != 0) return end_at_once(signal);
  const int saved_errno = errno;
  const std::uint64_t one = 1;
  write_if_ready(s_shared.descriptor, &one, sizeof one);
  const std::string_view line = line_of(s_shared.activity);
  write_if_ready(STDERR_FILENO, line.data(), line.size());
  errno = saved_errno;
}

void write_error(std::string_view text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody can be informed
}

// Ends the program for SIGBUS: a file was read beyond its end, or its disk has failed.
void report_lost_file(int signal, siginfo_t* info, void* /*context*/) {
  const char* const path = MappedFile::path_at(info->si_addr);
  if (path == nullptr) return end_at_once(signal);
  remove_parts_at_exit();
  write_error("mochi: cannot read '");
  write_error(path);
  write_error("': it became shorter while it was read, or its disk failed\n");
  ::_exit(1);
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction lost_file{};
  lost_file.sa_sigaction = report_lost_file;
  lost_file.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &lost_file, nullptr);

  s_shared.descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int signal : std::array{SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = remember;
    ::sigaction(signal, &action, nullptr);
  }
}

int interrupt_signal() { return s_shared.signal; }

bool was_interrupted() { return interrupt_signal() != 0; }

int interrupt_descriptor() { return s_shared.descriptor; }

void set_activity(Activity activity) { s_shared.activity = activity; }

}  // namespace mochi::cli
