#include "cli/download_display.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/printable.h"
#include "cli/interrupt.h"
#include "cli/progress_text.h"
#include "cli/terminal.h"
#include "hub/plan.h"

namespace mochi::cli {
namespace {

using hub::format_bytes;

double seconds_between(RateMeter::Clock::time_point begin, RateMeter::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

double fraction_of(std::uint64_t done, std::uint64_t size) {
  return size == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(size);
}

// ", 2:31 left"
std::string describe_left(std::uint64_t num_bytes, double bytes_per_second) {
  if (bytes_per_second <= 0) return "";
  return fmt::format(", {} left", format_clock(static_cast<double>(num_bytes) / bytes_per_second));
}

std::string rate_text(double bytes_per_second) {
  if (bytes_per_second <= 0) return "";
  return fmt::format(", {}/s", format_bytes(static_cast<std::uint64_t>(bytes_per_second)));
}

const char* verb_of(hub::Activity activity) {
  switch (activity) {
    case hub::Activity::kChecking:
      return "checking ";
    case hub::Activity::kFetching:
      return "";
    case hub::Activity::kVerifying:
      return "verifying ";
  }
  return "";
}

}  // namespace

void RateMeter::add(Clock::time_point time, std::uint64_t num_bytes) {
  constexpr std::chrono::seconds kWindow{10};
  constexpr std::chrono::milliseconds kInterval{200};
  if (!samples_.empty() && time - samples_.back().first < kInterval) return;
  samples_.emplace_back(time, num_bytes);
  while (samples_.size() > 2 && time - samples_.front().first > kWindow) samples_.pop_front();
}

double RateMeter::bytes_per_second() const {
  if (samples_.size() < 2 || samples_.back().second <= samples_.front().second) return 0;
  return static_cast<double>(samples_.back().second - samples_.front().second) /
         seconds_between(samples_.front().first, samples_.back().first);
}

std::string describe_download(const hub::Progress& progress, double bytes_per_second,
                              std::size_t max_columns) {
  constexpr std::size_t kWideBar = 24;
  constexpr std::size_t kNarrowBar = 8;
  const std::string verb = verb_of(progress.activity);
  const std::string name = verb + printable(progress.file);
  const std::string short_name =
      verb + printable(std::filesystem::path(progress.file).filename().string());
  const double fraction = fraction_of(progress.file_done, progress.file_size);
  const std::string count =
      fmt::format(" {} of {}", format_bytes(progress.file_done), format_bytes(progress.file_size));
  const std::string rate = rate_text(bytes_per_second);
  const std::string left = describe_left(progress.file_size - progress.file_done, bytes_per_second);
  const std::string share =
      fmt::format("; in all {:.0f} %", 100 * fraction_of(progress.all_done, progress.all_size));
  const std::string all =
      share + describe_left(progress.all_size - progress.all_done, bytes_per_second);
  const std::string wide = draw_bar(fraction, kWideBar);
  const std::string narrow = draw_bar(fraction, kNarrowBar);
  return first_that_fits(
      {name + wide + count + rate + left + all, name + narrow + count + rate + left + all,
       short_name + narrow + count + rate + left + all,
       short_name + narrow + count + rate + left + share, short_name + count + rate + left + share,
       short_name + count + rate + left, short_name + count + rate, short_name + count, short_name},
      max_columns);
}

void DownloadDisplay::begin(const hub::Progress& progress) {
  file_ = progress.file;
  activity_ = progress.activity;
  rate_ = {};
  begun_at_ = Clock::now();
  shown_at_ = begun_at_;
  shown_fraction_ = fraction_of(progress.file_done, progress.file_size);
  if (style_ != ProgressDisplay::Style::kLines) return;
  const std::string before =
      progress.file_done == 0
          ? ""
          : fmt::format(", {} were fetched before", format_bytes(progress.file_done));
  tell("{}{}: {}{}", verb_of(activity_), file_, format_bytes(progress.file_size), before);
}

void DownloadDisplay::on_progress(const hub::Progress& progress) {
  if (style_ == ProgressDisplay::Style::kNone) return;
  if (file_ != progress.file) begin(progress);
  if (activity_ != progress.activity) rate_ = {};
  activity_ = progress.activity;
  const Clock::time_point now = Clock::now();
  rate_.add(now, progress.file_done);
  const double fraction = fraction_of(progress.file_done, progress.file_size);
  const double seconds = seconds_between(shown_at_, now);
  if (style_ == ProgressDisplay::Style::kBar) {
    constexpr double kMinIntervalSeconds = 0.1;
    if (has_open_bar_ && seconds < kMinIntervalSeconds) return;
    const auto num_columns = static_cast<std::size_t>(std::max(terminal_width(), 2) - 1);
    tell_raw("\r\033[K" + describe_download(progress, rate_.bytes_per_second(), num_columns));
    has_open_bar_ = true;
  } else {
    // At most one line in two seconds, and not more than ten of a file.
    constexpr double kMinIntervalSeconds = 2;
    constexpr double kMinFraction = 0.1;
    if (seconds < kMinIntervalSeconds || fraction - shown_fraction_ < kMinFraction) return;
    const double rate = rate_.bytes_per_second();
    tell("{}{}: {} of {}{}{}{}", verb_of(activity_), file_, format_bytes(progress.file_done),
         format_bytes(progress.file_size), rate_text(rate),
         describe_left(progress.file_size - progress.file_done, rate),
         fmt::format("; in all {:.0f} %{}", 100 * fraction_of(progress.all_done, progress.all_size),
                     describe_left(progress.all_size - progress.all_done, rate)));
  }
  shown_at_ = now;
  shown_fraction_ = fraction;
}

void DownloadDisplay::on_complete(std::string_view file, std::uint64_t num_fetched) {
  if (style_ == ProgressDisplay::Style::kNone) return;
  const double seconds = seconds_between(begun_at_, Clock::now());
  tell("{}: complete and verified; {} fetched in {}", file, format_bytes(num_fetched),
       format_seconds(seconds));
  has_open_bar_ = false;
  file_.clear();
}

void DownloadDisplay::on_note(std::string_view text) {
  if (style_ == ProgressDisplay::Style::kNone) return;
  tell("{}", text);
  has_open_bar_ = false;
}

bool DownloadDisplay::should_stop() { return was_interrupted(); }

void DownloadDisplay::end_bar() {
  if (!has_open_bar_) return;
  tell_raw("\n");
  has_open_bar_ = false;
}

}  // namespace mochi::cli
