// Progress of a download on standard error: a bar that moves on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "cli/progress_display.h"
#include "hub/observer.h"

namespace mochi::cli {

// Bytes per second over the last few seconds.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;

  void add(Clock::time_point time, std::uint64_t num_bytes);
  // 0 if it is not known yet.
  double bytes_per_second() const;

 private:
  std::deque<std::pair<Clock::time_point, std::uint64_t>> samples_;
};

// "dit.safetensors [####....] 3.21 of 20.1 GB, 112 MB/s, 2:31 left; in all 12 %, 4:10 left", in at
// most `max_columns` columns. The least important parts are left out first.
std::string describe_download(const hub::Progress& progress, double bytes_per_second,
                              std::size_t max_columns);

class DownloadDisplay : public hub::Observer {
 public:
  explicit DownloadDisplay(ProgressDisplay::Style style) : style_(style) {}
  ~DownloadDisplay() override { end_bar(); }
  DownloadDisplay(const DownloadDisplay&) = delete;
  DownloadDisplay& operator=(const DownloadDisplay&) = delete;

  void on_progress(const hub::Progress& progress) override;
  void on_complete(std::string_view file, std::uint64_t num_fetched) override;
  void on_note(std::string_view text) override;
  bool should_stop() override;

 private:
  using Clock = RateMeter::Clock;

  void begin(const hub::Progress& progress);
  void end_bar();

  ProgressDisplay::Style style_;
  std::string file_;  // the one that is shown
  hub::Activity activity_ = hub::Activity::kFetching;
  RateMeter rate_;
  Clock::time_point begun_at_;
  Clock::time_point shown_at_;
  double shown_fraction_ = 0;
  bool has_open_bar_ = false;
};

}  // namespace mochi::cli
