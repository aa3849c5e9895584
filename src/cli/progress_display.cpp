#include "cli/progress_display.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace mochi::cli {
namespace {

struct PhaseWords {
  const char* verb;
  const char* unit;  // what is counted
  bool shows_rate;   // time per unit, and the time left
};

PhaseWords words_of(Phase phase) {
  switch (phase) {
    case Phase::kLoading:
      return {"loading", "tensors", false};
    case Phase::kText:
      return {"reading the prompt", "texts", false};
    case Phase::kSampling:
      return {"sampling", "steps", true};
    case Phase::kDecoding:
      return {"decoding", "frames", true};
    case Phase::kEncoding:
      return {"encoding", "frames", true};
  }
  return {"working", "pieces", false};
}

std::string title_of(const Progress& progress) {
  const char* verb = words_of(progress.phase).verb;
  return progress.item.empty() ? verb : fmt::format("{} the {}", verb, progress.item);
}

bool is_end(const Progress& progress) { return progress.num_done >= progress.num_total; }

double fraction_of(const Progress& progress) {
  if (progress.num_total <= 0) return 1.0;
  return static_cast<double>(progress.num_done) / static_cast<double>(progress.num_total);
}

// ", 0.98 s/step, 0:53 left"
std::string describe_rate(const Progress& progress) {
  const PhaseWords words = words_of(progress.phase);
  const std::int64_t num_done = progress.num_done - progress.num_before;
  if (!words.shows_rate || num_done == 0) return "";
  const double per_unit = progress.seconds / static_cast<double>(num_done);
  std::string unit = words.unit;
  unit.pop_back();
  std::string text = fmt::format(", {}/{}", format_seconds(per_unit), unit);
  if (!is_end(progress)) {
    const auto num_left = static_cast<double>(progress.num_total - progress.num_done);
    text += fmt::format(", ETA {}", format_clock(per_unit * num_left));
  }
  return text;
}

std::string describe_end(const Progress& progress) {
  const PhaseWords words = words_of(progress.phase);
  const std::string count =
      words.shows_rate
          ? fmt::format("{} {} in ", progress.num_total - progress.num_before, words.unit)
          : "";
  return fmt::format("{}: {}{}{}", title_of(progress), count, format_seconds(progress.seconds),
                     describe_rate(progress));
}

}  // namespace

std::string format_clock(double seconds) {
  const auto total = std::lround(std::max(0.0, seconds));
  const long hours = total / 3600;
  const long minutes = total / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  return fmt::format("{}:{:02}", minutes, total % 60);
}

std::string format_seconds(double seconds) {
  if (seconds < 10) return fmt::format("{:.2f} s", seconds);
  if (seconds < 100) return fmt::format("{:.1f} s", seconds);
  return fmt::format("{:.0f} s", seconds);
}

ProgressDisplay::Style display_style(bool is_quiet) {
  if (is_quiet) return ProgressDisplay::Style::kNone;
  const bool is_terminal = ::isatty(STDERR_FILENO) == 1;
  return is_terminal ? ProgressDisplay::Style::kBar : ProgressDisplay::Style::kLines;
}

ProgressDisplay::~ProgressDisplay() { end_bar(); }

void ProgressDisplay::show(const Progress& progress) {
  if (progress.num_done == progress.num_before) {
    phase_begin_seconds_ = seconds_[progress.phase];
    shown_at_seconds_ = 0;
    shown_fraction_ = 0;
  }
  seconds_[progress.phase] = phase_begin_seconds_ + progress.seconds;
  if (style_ == Style::kBar) show_bar(progress);
  if (style_ == Style::kLines) show_line(progress);
}

void ProgressDisplay::show_bar(const Progress& progress) {
  constexpr double kMinIntervalSeconds = 0.05;
  constexpr std::size_t kBarWidth = 24;
  const bool is_edge = progress.num_done == progress.num_before || is_end(progress);
  if (!is_edge && progress.seconds - shown_at_seconds_ < kMinIntervalSeconds) return;
  shown_at_seconds_ = progress.seconds;
  if (is_end(progress)) {
    fmt::print(stderr, "\r\033[K{}\n", describe_end(progress));
    has_open_bar_ = false;
  } else {
    const auto filled =
        static_cast<std::size_t>(fraction_of(progress) * static_cast<double>(kBarWidth));
    fmt::print(stderr, "\r\033[K{} [{}{}] {}/{}{}", title_of(progress), std::string(filled, '#'),
               std::string(kBarWidth - filled, '.'), progress.num_done, progress.num_total,
               describe_rate(progress));
    has_open_bar_ = true;
  }
  std::fflush(stderr);
}

void ProgressDisplay::show_line(const Progress& progress) {
  // In between: at most one line in two seconds, and not more than ten of a phase.
  constexpr double kMinIntervalSeconds = 2;
  constexpr double kMinFraction = 0.1;
  const double fraction = fraction_of(progress);
  if (is_end(progress)) {
    fmt::print(stderr, "{}\n", describe_end(progress));
  } else if (progress.num_done == progress.num_before) {
    const PhaseWords words = words_of(progress.phase);
    const std::string from =
        progress.num_before > 0 ? fmt::format(", {} done before", progress.num_before) : "";
    const std::string count =
        words.shows_rate ? fmt::format(": {} {}{}", progress.num_total, words.unit, from) : " ...";
    fmt::print(stderr, "{}{}\n", title_of(progress), count);
  } else if (progress.seconds - shown_at_seconds_ >= kMinIntervalSeconds &&
             fraction - shown_fraction_ >= kMinFraction) {
    shown_at_seconds_ = progress.seconds;
    shown_fraction_ = fraction;
    fmt::print(stderr, "{}: {}/{}{}\n", title_of(progress), progress.num_done, progress.num_total,
               describe_rate(progress));
  }
  std::fflush(stderr);
}

void ProgressDisplay::end_bar() {
  if (!has_open_bar_) return;
  fmt::print(stderr, "\n");
  has_open_bar_ = false;
}

}  // namespace mochi::cli
