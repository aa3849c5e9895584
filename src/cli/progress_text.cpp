#include "cli/progress_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace mochi::cli {
namespace {

struct PhaseWords {
  const char* verb;
  const char* unit;  // the counted thing
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
    case Phase::kConverting:
      return {"converting", "tensors", false};
  }
  return {"working", "pieces", false};
}

std::string title_of(const Progress& progress) {
  const char* verb = words_of(progress.phase).verb;
  return progress.item.empty() ? verb : fmt::format("{} the {}", verb, progress.item);
}

// 0 while that is not known.
double seconds_per_unit(const Progress& progress) {
  const std::int64_t num_done = progress.num_done - progress.num_before;
  if (!words_of(progress.phase).shows_rate || num_done <= 0) return 0;
  return progress.seconds / static_cast<double>(num_done);
}

// Steps without an evaluation take no time.
bool has_skipped(const Progress& progress) {
  return progress.phase == Phase::kSampling && progress.num_evaluated > 0 &&
         progress.num_evaluated < progress.num_done - progress.num_before;
}

// " (20 evaluated)"
std::string describe_evaluated(const Progress& progress) {
  return has_skipped(progress) ? fmt::format(" ({} evaluated)", progress.num_evaluated) : "";
}

// ", 0.98 s/step"
std::string describe_rate(const Progress& progress) {
  const double per_unit = seconds_per_unit(progress);
  if (per_unit <= 0) return "";
  std::string unit = words_of(progress.phase).unit;
  unit.pop_back();
  return fmt::format(", {}/{}", format_seconds(per_unit), unit);
}

// ", 0:51 left"
std::string describe_time_left(const Progress& progress, double seconds_since) {
  const double per_unit = seconds_per_unit(progress);
  if (per_unit <= 0) return "";
  double seconds = per_unit * static_cast<double>(progress.num_total - progress.num_done);
  if (has_skipped(progress)) {
    const auto num_evaluated = static_cast<double>(progress.num_evaluated);
    seconds = progress.seconds / num_evaluated * progress.num_evaluations_left;
  }
  return fmt::format(", {} left", format_clock(seconds - seconds_since));
}

}  // namespace

std::string draw_bar(double fraction, std::size_t width) {
  const auto filled = static_cast<std::size_t>(fraction * static_cast<double>(width));
  return fmt::format(" [{}{}]", std::string(filled, '#'), std::string(width - filled, '.'));
}

std::string first_that_fits(std::initializer_list<std::string> texts, std::size_t max_columns) {
  for (const std::string& text : texts) {
    if (text.size() <= max_columns) return text;
  }
  return (texts.end() - 1)->substr(0, max_columns);
}

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

bool is_begin(const Progress& progress) { return progress.num_done == progress.num_before; }

bool is_end(const Progress& progress) { return progress.num_done >= progress.num_total; }

double fraction_of(const Progress& progress) {
  if (progress.num_total <= 0) return 1.0;
  const double fraction =
      static_cast<double>(progress.num_done) / static_cast<double>(progress.num_total);
  return std::clamp(fraction, 0.0, 1.0);
}

std::string describe_running(const Progress& progress, double seconds_since,
                             std::size_t max_columns) {
  constexpr std::size_t kWideBar = 24;
  constexpr std::size_t kNarrowBar = 8;
  constexpr std::size_t kShortBar = 4;
  const std::string title = title_of(progress);
  const std::string count = fmt::format(" {}/{}", progress.num_done, progress.num_total);
  const std::string evaluated = describe_evaluated(progress);
  const std::string clock = fmt::format(", {}", format_clock(progress.seconds + seconds_since));
  const std::string rate = describe_rate(progress);
  const std::string left = describe_time_left(progress, seconds_since);
  const auto bar = [&progress](std::size_t width) {
    return draw_bar(fraction_of(progress), width);
  };
  return first_that_fits(
      {title + bar(kWideBar) + count + evaluated + clock + rate + left,
       title + bar(kNarrowBar) + count + evaluated + clock + left,
       title + bar(kNarrowBar) + count + clock + rate + left,
       title + bar(kNarrowBar) + count + clock + left,
       title + bar(kShortBar) + count + clock + left, title + count + clock + left,
       title + count + clock, title + count, title},
      max_columns);
}

std::string describe_end(const Progress& progress, std::size_t max_columns) {
  const PhaseWords words = words_of(progress.phase);
  const std::string title = title_of(progress);
  const std::string seconds = format_seconds(progress.seconds);
  const std::string count =
      words.shows_rate ? fmt::format("{} {}{} in ", progress.num_total - progress.num_before,
                                     words.unit, describe_evaluated(progress))
                       : "";
  return first_that_fits(
      {fmt::format("{}: {}{}{}", title, count, seconds, describe_rate(progress)),
       fmt::format("{}: {}{}", title, count, seconds), fmt::format("{}: {}", title, seconds)},
      max_columns);
}

std::string describe_begin(const Progress& progress) {
  const PhaseWords words = words_of(progress.phase);
  if (!words.shows_rate) return title_of(progress) + " ...";
  const std::string before =
      progress.num_before > 0 ? fmt::format(", {} done before", progress.num_before) : "";
  return fmt::format("{}: {} {}{}", title_of(progress), progress.num_total, words.unit, before);
}

std::string describe_state(const Progress& progress) {
  return fmt::format("{}: {}/{}{}{}{}", title_of(progress), progress.num_done, progress.num_total,
                     describe_evaluated(progress), describe_rate(progress),
                     describe_time_left(progress, 0));
}

}  // namespace mochi::cli
