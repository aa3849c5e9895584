// Progress of the long phases on standard error: a bar that moves on a terminal, plain lines
// elsewhere.
#pragma once

#include <chrono>
#include <map>

#include "cli/progress_text.h"
#include "mochi/mochi.h"

namespace mochi::cli {

class ProgressDisplay {
 public:
  enum class Style { kNone, kLines, kBar };

  explicit ProgressDisplay(Style style) : style_(style) {}
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void show(const Progress& progress);

  // Lets the bar's clock run on within a long step. Cheap enough to be called at every poll.
  void tick();

  // Seconds that each phase has taken, all its items together.
  const std::map<Phase, double>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;

  void show_bar(const Progress& progress);
  void draw_bar();
  void show_line(const Progress& progress);
  void end_bar();

  Style style_;
  std::map<Phase, double> seconds_;
  double phase_begin_seconds_ = 0;  // seconds_ before the running item
  double shown_at_seconds_ = 0;     // at the last display of the running item
  double shown_fraction_ = 0;
  bool has_open_bar_ = false;
  Progress shown_;  // by the open bar
  Clock::time_point shown_at_;
  Clock::time_point drawn_at_;
};

// A bar where standard error is a terminal that can redraw a line.
ProgressDisplay::Style display_style(bool is_quiet);

}  // namespace mochi::cli
