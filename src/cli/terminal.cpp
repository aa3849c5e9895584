#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>

#include "base/error.h"
#include "base/printable.h"
#include "cli/interrupt.h"

namespace mochi::cli {
namespace {

constexpr const char* kClearLine = "\r\033[K";

enum class Patience { kGivesUp, kWaits };

// Returns true if a write that failed with `error` may be tried again.
bool may_retry(int descriptor, int error, Patience patience) {
  if (error == EINTR) return interrupt_signal() == 0;
  if (error != EAGAIN) return false;
  constexpr int kGiveUpAfterMs = 200;
  pollfd wanted{descriptor, POLLOUT, 0};
  const int num_ready = ::poll(&wanted, 1, patience == Patience::kWaits ? -1 : kGiveUpAfterMs);
  return num_ready > 0 || (num_ready < 0 && errno == EINTR && interrupt_signal() == 0);
}

// Returns 0, or the errno of the write that failed.
int write_all(int descriptor, std::string_view text, Patience patience) noexcept {
  while (!text.empty()) {
    const ssize_t num_written = ::write(descriptor, text.data(), text.size());
    if (num_written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(num_written));
    } else if (const int error = errno; !may_retry(descriptor, error, patience)) {
      return error;
    }
  }
  return 0;
}

}  // namespace

void secure_standard_streams() {
  // Opened the wrong way round, so that reading and writing fail as they do on closed ones.
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) != -1) continue;
    const int flags = descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    if (::open("/dev/null", flags) < 0) return;  // the lowest free number is this descriptor's
  }
  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
}

int terminal_width() {
  winsize size{};
  if (::isatty(STDERR_FILENO) != 1 || ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  constexpr int kUsualWidth = 80;  // some terminals do not know theirs
  return size.ws_col > 0 ? size.ws_col : kUsualWidth;
}

void tell_line(std::string_view text) noexcept {
  try {
    std::string line = terminal_width() > 0 ? kClearLine : "";
    line += printable(text);
    line += '\n';
    tell_raw(line);
  } catch (...) {  // memory is exhausted
    tell_raw(text);
    tell_raw("\n");
  }
}

void tell_summary_line(std::string_view text) noexcept {
  try {
    write_all(STDOUT_FILENO, printable(text) + "\n", Patience::kGivesUp);
  } catch (...) {  // memory is exhausted: the summary is lost, the run is not
    return;
  }
}

void tell_summary_lines(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    tell_summary_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void tell_raw(std::string_view text) noexcept {
  write_all(STDERR_FILENO, text, Patience::kGivesUp);
}

void print_result(std::string_view text) {
  if (const int error = write_all(STDOUT_FILENO, text, Patience::kWaits); error != 0) {
    const std::string reason = error == EBADF ? "it is closed" : describe_errno(error);
    fail("cannot write to the standard output: {}", reason);
  }
}

void print_result_line(std::string_view text) { print_result(printable(text) + "\n"); }

void check_standard_output() {
  const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
  if (flags == -1 || (flags & O_ACCMODE) == O_RDONLY) {
    fail("cannot write to the standard output: it is closed");
  }
}

}  // namespace mochi::cli
