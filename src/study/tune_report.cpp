#include "study/tune_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "report/html_page.h"
#include "report/svg_plot.h"
#include "study/search_space.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;

std::string describe_config(const TuneRecord& record, const Trial& trial) {
  return describe_briefly(trial.config, record.num_steps);
}

double speed_of(const TuneRecord& record, const Trial& trial) {
  return speed_up(trial, record.dense_seconds());
}

// "31.25 dB (worst 28.10, prompt 2), 1.42 times as fast".
std::string describe_result(const TuneRecord& record, const Trial& trial) {
  const std::size_t worst = worst_prompt(trial);
  return fmt::format("{:.2f} dB (worst {:.2f}, prompt {}), {:.2f} times as fast", mean_psnr(trial),
                     trial.evaluations[worst].psnr, worst + 1, speed_of(record, trial));
}

std::string describe_outcome(const TuneRecord& record, std::size_t trial_idx) {
  const Trial& trial = record.trials[trial_idx];
  if (!record.goal.is_complete(trial)) {
    return fmt::format("abandoned after {} of {} prompts", trial.evaluations.size(),
                       record.goal.num_prompts);
  }
  if (!record.goal.is_good(trial)) return "not good enough";
  return record.fastest() == trial_idx ? "fastest good one" : "good";
}

report::Series make_series(const TuneRecord& record, std::string name, bool is_line,
                           const std::vector<std::size_t>& trials) {
  report::Series series{.name = std::move(name), .points = {}, .is_line = is_line};
  for (const std::size_t i : trials) {
    const Trial& trial = record.trials[i];
    series.points.emplace_back(speed_of(record, trial), mean_psnr(trial));
    series.labels.push_back(fmt::format("trial {}: {}; {}", i + 1, describe_config(record, trial),
                                        describe_result(record, trial)));
  }
  return series;
}

// Makes a line at the wanted quality, as wide as the other series.
report::Series make_threshold(double min_psnr, const std::vector<report::Series>& beside) {
  report::Series line{
      .name = fmt::format("wanted: {} dB", min_psnr), .points = {}, .is_line = true};
  double first = std::numeric_limits<double>::infinity();
  double last = -first;
  for (const report::Series& series : beside) {
    for (const auto& [x, y] : series.points) {
      first = std::min(first, x);
      last = std::max(last, x);
    }
  }
  line.points = {{first, min_psnr}, {last, min_psnr}};
  line.labels = {line.name, line.name};
  return line;
}

// Plots the complete trials; those of fewer prompts cannot be compared with them.
report::Figure make_plot(const TuneRecord& record) {
  std::vector<std::size_t> good;
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < record.trials.size(); ++i) {
    const Trial& trial = record.trials[i];
    if (!record.goal.is_complete(trial)) continue;
    (record.goal.is_good(trial) ? good : others).push_back(i);
  }
  report::Plot plot{.title = "Quality and speed",
                    .x_label = "times as fast as dense",
                    .y_label = "PSNR against dense, dB",
                    .series = {make_series(record, "Pareto front", true,
                                           find_pareto_front(record.trials, record.goal)),
                               make_series(record, "not good enough", false, others),
                               make_series(record, "good", false, good)}};
  if (const auto fastest = record.fastest()) {
    plot.series.push_back(make_series(record, "fastest good one", false, {*fastest}));
  }
  plot.series.push_back(make_threshold(record.goal.min_psnr, plot.series));
  return draw_plot(plot);
}

std::vector<std::string> make_row(const TuneRecord& record, std::size_t trial_idx) {
  const Trial& trial = record.trials[trial_idx];
  const std::size_t worst = worst_prompt(trial);
  return {fmt::to_string(trial_idx + 1),
          describe_config(record, trial),
          fmt::format("{:.2f}", speed_of(record, trial)),
          fmt::format("{:.2f}", mean_of(trial.evaluations, &Evaluation::seconds)),
          fmt::format("{:.2f}", mean_psnr(trial)),
          fmt::format("{:.2f}", trial.evaluations[worst].psnr),
          fmt::format("{:.4f}", mean_of(trial.evaluations, &Evaluation::ssim)),
          fmt::format("{:.4f}", mean_of(trial.evaluations, &Evaluation::relative_error)),
          describe_outcome(record, trial_idx)};
}

std::vector<std::vector<std::string>> make_settings(const TuneRecord& record) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : record.settings.items()) {
    if (value.is_object()) continue;  // the configuration of the start, which is that of trial 1
    rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  return rows;
}

}  // namespace

fs::path report_path(const fs::path& folder) { return folder / "report.html"; }

fs::path config_path(const fs::path& folder) { return folder / "chipmunk-config.yml"; }

std::string describe_progress(const TuneRecord& record, std::size_t trial_idx) {
  const Trial& trial = record.trials[trial_idx];
  std::string line =
      fmt::format("trial {}: {}: {}; {}", trial_idx + 1, describe_config(record, trial),
                  describe_result(record, trial), describe_outcome(record, trial_idx));
  const auto fastest = record.fastest();
  if (fastest && *fastest != trial_idx) {
    line += fmt::format("; fastest so far: trial {}, {:.2f} times", *fastest + 1,
                        speed_of(record, record.trials[*fastest]));
  }
  return line;
}

std::string describe_best(const TuneRecord& record) {
  const std::size_t best = find_best(record.trials, record.goal);
  return fmt::format("the best, trial {}, has {:.2f} dB", best + 1, mean_psnr(record.trials[best]));
}

std::vector<std::string> make_summary(const TuneRecord& record) {
  std::vector<std::string> lines{
      fmt::format("{} trials; no other trial beats these in both speed and quality:",
                  record.trials.size()),
      fmt::format("{:>5} {:>8} {:>8} {:>8} {:>8}  {}", "trial", "times", "seconds", "PSNR/dB",
                  "SSIM", "configuration")};
  for (const std::size_t i : find_pareto_front(record.trials, record.goal)) {
    const Trial& trial = record.trials[i];
    lines.push_back(
        fmt::format("{:>5} {:>8.2f} {:>8.2f} {:>8.2f} {:>8.4f}  {}", i + 1, speed_of(record, trial),
                    mean_of(trial.evaluations, &Evaluation::seconds), mean_psnr(trial),
                    mean_of(trial.evaluations, &Evaluation::ssim), describe_config(record, trial)));
  }
  if (const auto fastest = record.fastest()) {
    const Trial& trial = record.trials[*fastest];
    lines.push_back(fmt::format("the fastest of {} dB or more is trial {}: {}",
                                record.goal.min_psnr, *fastest + 1,
                                describe_result(record, trial)));
  }
  return lines;
}

std::string make_report(const TuneRecord& record) {
  report::HtmlPage page("Sparsity: quality and speed");
  const auto fastest = record.fastest();
  page.add_text(fastest ? fmt::format("The fastest of {} dB or more is trial {}: {}; {}.",
                                      record.goal.min_psnr, *fastest + 1,
                                      describe_config(record, record.trials[*fastest]),
                                      describe_result(record, record.trials[*fastest]))
                        : fmt::format("No trial reaches {} dB; {}.", record.goal.min_psnr,
                                      describe_best(record)));
  page.add_figure(make_plot(record));
  page.add_heading("Trials");
  std::vector<std::vector<std::string>> rows;
  rows.reserve(record.trials.size());
  for (std::size_t i = 0; i < record.trials.size(); ++i) rows.push_back(make_row(record, i));
  page.add_table({"trial", "configuration", "times as fast", "seconds", "PSNR, dB",
                  "worst prompt, dB", "SSIM", "error of the latents", "verdict"},
                 rows);
  page.add_heading("Settings");
  page.add_pairs("setting", "value", make_settings(record));
  return page.finish();
}

}  // namespace mochi::study
