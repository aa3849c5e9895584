#include "cli/progress_display.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace mochi::cli {
namespace {

// The last column stays free: some terminals wrap as soon as it is written to.
std::size_t num_usable_columns() {
  return static_cast<std::size_t>(std::max(terminal_width(), 2) - 1);
}

Activity activity_of(Phase phase) {
  return phase == Phase::kSampling ? Activity::kSampling : Activity::kWorking;
}

}  // namespace

ProgressDisplay::Style display_style(bool is_quiet) {
  if (is_quiet) return ProgressDisplay::Style::kNone;
  const char* terminal = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): never set here
  const bool can_redraw = terminal == nullptr || std::string_view(terminal) != "dumb";
  return terminal_width() > 0 && can_redraw ? ProgressDisplay::Style::kBar
                                            : ProgressDisplay::Style::kLines;
}

ProgressDisplay::~ProgressDisplay() { end_bar(); }

void ProgressDisplay::show(const Progress& progress) {
  if (is_begin(progress)) {
    phase_begin_seconds_ = seconds_[progress.phase];
    shown_at_seconds_ = 0;
    shown_fraction_ = 0;
  }
  seconds_[progress.phase] = phase_begin_seconds_ + progress.seconds;
  if (style_ != Style::kNone) set_activity(activity_of(progress.phase));
  if (style_ == Style::kBar) show_bar(progress);
  if (style_ == Style::kLines) show_line(progress);
}

void ProgressDisplay::show_bar(const Progress& progress) {
  constexpr double kMinIntervalSeconds = 0.05;
  const bool is_edge = is_begin(progress) || is_end(progress);
  if (!is_edge && progress.seconds - shown_at_seconds_ < kMinIntervalSeconds) return;
  shown_at_seconds_ = progress.seconds;
  if (is_end(progress)) {
    tell("{}", describe_end(progress, num_usable_columns()));
    has_open_bar_ = false;
    return;
  }
  shown_ = progress;
  shown_at_ = Clock::now();
  draw_bar();
}

void ProgressDisplay::draw_bar() {
  drawn_at_ = Clock::now();
  const double seconds_since = std::chrono::duration<double>(drawn_at_ - shown_at_).count();
  tell_raw("\r\033[K" + describe_running(shown_, seconds_since, num_usable_columns()));
  has_open_bar_ = true;
}

void ProgressDisplay::tick() {
  constexpr std::chrono::milliseconds kInterval{250};
  if (has_open_bar_ && Clock::now() - drawn_at_ >= kInterval) draw_bar();
}

void ProgressDisplay::show_line(const Progress& progress) {
  // In between: at most one line in two seconds, and not more than ten of a phase.
  constexpr double kMinIntervalSeconds = 2;
  constexpr double kMinFraction = 0.1;
  const double fraction = fraction_of(progress);
  if (is_end(progress)) {
    tell("{}", describe_end(progress));
  } else if (is_begin(progress)) {
    tell("{}", describe_begin(progress));
  } else if (progress.seconds - shown_at_seconds_ >= kMinIntervalSeconds &&
             fraction - shown_fraction_ >= kMinFraction) {
    shown_at_seconds_ = progress.seconds;
    shown_fraction_ = fraction;
    tell("{}", describe_state(progress));
  }
}

void ProgressDisplay::end_bar() {
  if (!has_open_bar_) return;
  tell_raw("\n");
  has_open_bar_ = false;
}

}  // namespace mochi::cli
