#include "study/tune_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "report/html_page.h"
#include "report/svg_plot.h"
#include "study/search_space.h"
#include "study/verdict.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;

std::string describe_config(const TuneRecord& record, const Trial& trial) {
  return describe_briefly(trial.config, record.workload);
}

// Ways of being faster than the dense video.
enum class Method : std::uint8_t { kSkipping, kSparsity, kBoth };

struct MethodText {
  Method method;
  std::string_view name;      // in the plot's legend
  std::string_view sentence;  // begins or continues a sentence about the method's trials
  report::Mark mark;
};
constexpr std::array kMethods{
    MethodText{Method::kSkipping, "step skipping, dense attention", "step skipping alone",
               report::Mark::kDot},
    MethodText{Method::kSparsity, "sparse attention, every step", "sparse attention alone",
               report::Mark::kSquare},
    MethodText{Method::kBoth, "both", "both together", report::Mark::kTriangle},
};

Method method_of(const SparsityConfig& config) {
  if (!config.attn.is_enabled) return Method::kSkipping;
  return config.step_skipping.rule == SkipRule::kOff ? Method::kSparsity : Method::kBoth;
}

std::vector<std::size_t> list_trials(const TuneRecord& record, Method method) {
  std::vector<std::size_t> trials;
  for (std::size_t i = 0; i < record.trials.size(); ++i) {
    if (method_of(record.trials[i].config) == method) trials.push_back(i);
  }
  return trials;
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

// Returns a number with this many decimals, or a dash.
std::string format_known(std::optional<double> value, int num_decimals) {
  return value ? fmt::format("{:.{}f}", *value, num_decimals) : "–";
}

double mean_evaluated(const Trial& trial) {
  double sum = 0;
  for (const Evaluation& evaluation : trial.evaluations) sum += evaluation.num_evaluated;
  return sum / static_cast<double>(trial.evaluations.size());
}

double worst_psnr(const Trial& trial) { return trial.evaluations[worst_prompt(trial)].psnr; }

report::Series make_series(const TuneRecord& record, std::string name,
                           const std::vector<std::size_t>& trials) {
  report::Series series{.name = std::move(name), .points = {}, .is_line = false};
  for (const std::size_t i : trials) {
    const Trial& trial = record.trials[i];
    // Trials of fewer prompts cannot be compared with the others.
    if (!record.goal.is_complete(trial)) continue;
    series.points.emplace_back(speed_of(record, trial), mean_psnr(trial));
    series.labels.push_back(
        fmt::format("trial {}: {}; {}; {}", i + 1, describe_config(record, trial),
                    describe_result(record, trial), describe_outcome(record, i)));
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

report::Figure make_plot(const TuneRecord& record) {
  report::Series front =
      make_series(record, "Pareto front", find_pareto_front(record.trials, record.goal));
  front.is_line = true;
  report::Plot plot{.title = "Quality and speed",
                    .x_label = "times as fast as dense attention at every step",
                    .y_label = "PSNR, dB",
                    .series = {std::move(front)}};
  for (const MethodText& text : kMethods) {
    report::Series series =
        make_series(record, std::string(text.name), list_trials(record, text.method));
    series.mark = text.mark;
    if (!series.points.empty()) plot.series.push_back(std::move(series));
  }
  // Lines come first, so that marks lie on them.
  plot.series.insert(plot.series.begin() + 1, make_threshold(record.goal.min_psnr, plot.series));
  return draw_plot(plot);
}

const std::vector<std::string> kColumns{"trial",        "evaluated steps",  "times as fast",
                                        "PSNR, dB",     "worst prompt, dB", "measured, s",
                                        "predicted, s", "verdict",          "attention"};

std::vector<std::string> make_row(const TuneRecord& record, std::size_t trial_idx) {
  const Trial& trial = record.trials[trial_idx];
  return {fmt::to_string(trial_idx + 1),
          fmt::format("{:g}", mean_evaluated(trial)),
          fmt::format("{:.2f}", speed_of(record, trial)),
          fmt::format("{:.2f}", mean_psnr(trial)),
          fmt::format("{:.2f}", worst_psnr(trial)),
          fmt::format("{:.2f}", mean_seconds(trial)),
          format_known(record.predict_seconds(trial_idx), 2),
          describe_outcome(record, trial_idx),
          describe_attention(trial.config, record.workload.num_steps)};
}

std::vector<std::vector<std::string>> make_settings(const TuneRecord& record) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : record.settings.items()) {
    if (value.is_object()) continue;  // the configuration of the start, which is that of trial 1
    rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  return rows;
}

// "Evaluate 12 of 64 steps with dense attention", a configuration as advice.
std::string describe_advice(const TuneRecord& record, const Trial& trial) {
  const Method method = method_of(trial.config);
  const std::string steps =
      method == Method::kSparsity
          ? "every step"
          : fmt::format("{:g} of {} steps", mean_evaluated(trial), record.workload.num_steps);
  return fmt::format("Evaluate {} with {} attention", steps,
                     method == Method::kSkipping ? "dense" : "sparse");
}

// "Evaluate 12 of 64 steps with dense attention: 5.12 times as fast, at 42.31 dB."
std::string make_lead(const TuneRecord& record) {
  const auto fastest = record.fastest();
  if (!fastest) {
    return fmt::format("No trial reaches {} dB; {}.", record.goal.min_psnr, describe_best(record));
  }
  const Trial& trial = record.trials[*fastest];
  const double speed = speed_of(record, trial);
  if (speed <= 1) {
    return fmt::format("No trial of {} dB or more is faster than dense attention at every step.",
                       record.goal.min_psnr);
  }
  return fmt::format("{}: {:.2f} times as fast, at {:.2f} dB.", describe_advice(record, trial),
                     speed, mean_psnr(trial));
}

std::string describe_fastest(const TuneRecord& record, std::size_t trial_idx) {
  return fmt::format("The fastest of {} dB or more is trial {}: {}; {}.", record.goal.min_psnr,
                     trial_idx + 1, describe_config(record, record.trials[trial_idx]),
                     describe_result(record, record.trials[trial_idx]));
}

// "step skipping alone: trial 7, 5.12 times as fast".
std::string describe_method(const TuneRecord& record, const MethodText& text) {
  const std::vector<std::size_t> indices = list_trials(record, text.method);
  if (indices.empty()) return fmt::format("{}: not tried", text.sentence);
  std::vector<Trial> trials;
  trials.reserve(indices.size());
  for (const std::size_t i : indices) trials.push_back(record.trials[i]);
  const auto fastest = find_fastest(trials, record.goal);
  if (!fastest) return fmt::format("{}: not reached", text.sentence);
  return fmt::format("{}: trial {}, {:.2f} times as fast", text.sentence, indices[*fastest] + 1,
                     speed_of(record, trials[*fastest]));
}

std::string compare_methods(const TuneRecord& record) {
  std::string text = fmt::format("The fastest of {} dB or more by method: ", record.goal.min_psnr);
  for (const MethodText& method : kMethods) {
    text += describe_method(record, method) + (&method == &kMethods.back() ? "." : "; ");
  }
  return text;
}

std::string describe_costs(const TuneRecord& record) {
  const CostModel costs = record.costs();
  std::string text = fmt::format(
      "Predicted seconds are the sum over the evaluated steps. As measured here, a step takes "
      "{} with dense attention",
      format_duration(costs.dense_step_seconds()));
  if (const auto& sparse = costs.sparse()) {
    text += fmt::format(
        "; with the sparse attention of the start, a full step takes {} and a "
        "sparse step {}",
        format_duration(sparse->full_seconds), format_duration(sparse->sparse_seconds));
  }
  return text + ".";
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
      fmt::format("{:>5} {:>6} {:>9} {:>8} {:>6} {:>8} {:>8}  {}", "trial", "steps", "predicted",
                  "seconds", "times", "PSNR/dB", "worst/dB", "configuration")};
  for (const std::size_t i : find_pareto_front(record.trials, record.goal)) {
    const Trial& trial = record.trials[i];
    lines.push_back(fmt::format("{:>5} {:>6g} {:>9} {:>8.2f} {:>6.2f} {:>8.2f} {:>8.2f}  {}", i + 1,
                                mean_evaluated(trial), format_known(record.predict_seconds(i), 2),
                                mean_seconds(trial), speed_of(record, trial), mean_psnr(trial),
                                worst_psnr(trial),
                                describe_attention(trial.config, record.workload.num_steps)));
  }
  if (const auto fastest = record.fastest()) lines.push_back(describe_fastest(record, *fastest));
  lines.push_back(compare_methods(record));
  return lines;
}

std::string make_report(const TuneRecord& record) {
  report::HtmlPage page("Step skipping and sparsity: quality and speed");
  page.add_lead(make_lead(record));
  if (const auto fastest = record.fastest()) page.add_text(describe_fastest(record, *fastest));
  page.add_text(compare_methods(record));
  page.add_figure(make_plot(record));
  const auto num_abandoned = std::ranges::count_if(
      record.trials, [&](const Trial& trial) { return !record.goal.is_complete(trial); });
  if (num_abandoned > 0) {
    page.add_text(fmt::format("Not in the plot: abandoned trials ({}).", num_abandoned));
  }
  page.add_heading("Trials");
  page.add_text(describe_costs(record));
  std::vector<std::vector<std::string>> rows;
  rows.reserve(record.trials.size());
  for (std::size_t i = 0; i < record.trials.size(); ++i) rows.push_back(make_row(record, i));
  page.add_table(kColumns, rows);
  page.add_heading("Settings");
  page.add_pairs("setting", "value", make_settings(record));
  return page.finish();
}

}  // namespace mochi::study
