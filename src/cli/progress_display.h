// Progress of the long phases on stderr: a bar that moves on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "mochi/mochi.h"

namespace mochi::cli {

// "1:02:03", "12:34", "0:07".
std::string format_clock(double seconds);
// "0.42 s", "12.3 s", "214 s".
std::string format_seconds(double seconds);

class ProgressDisplay {
 public:
  enum class Style { kNone, kLines, kBar };

  explicit ProgressDisplay(Style style) : style_(style) {}
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void show(const Progress& progress);

  // Seconds that each phase has taken, all its items together.
  const std::map<Phase, double>& seconds() const { return seconds_; }

 private:
  void show_bar(const Progress& progress);
  void show_line(const Progress& progress);
  void end_bar();

  Style style_;
  std::map<Phase, double> seconds_;
  double phase_begin_seconds_ = 0;  // of seconds_, before the item that is running
  double shown_at_seconds_ = 0;     // of the running item
  double shown_fraction_ = 0;
  bool has_open_bar_ = false;
};

// A bar where stderr is a terminal.
ProgressDisplay::Style display_style(bool is_quiet);

}  // namespace mochi::cli
