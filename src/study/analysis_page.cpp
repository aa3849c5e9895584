#include "study/analysis_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "report/html_page.h"
#include "report/svg_plot.h"
#include "study/analysis_words.h"

namespace mochi::study {
namespace {

using OrderedJson = nlohmann::ordered_json;
using report::HeatMap;
using report::HtmlPage;
using report::Plot;
using report::Series;

constexpr double kNotDrawn = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> number_names(int count) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

void add_videos(HtmlPage& page, const Analysis& analysis) {
  if (!analysis.has_videos) return;
  page.add_heading("Videos");
  const int width = analysis.request.width;
  const int height = analysis.request.height;
  const RunNames names = name_run(analysis);
  page.add_videos({{"dense", kDenseVideo, width, height},
                   {std::string(names.run), std::string(names.file), width, height}});
}

std::string describe_difference(int gain) {
  const std::string amplified = gain == 1 ? "" : fmt::format(", amplified {} times", gain);
  return fmt::format("difference{}; black where the videos are equal", amplified);
}

void add_strips(HtmlPage& page, const Analysis& analysis) {
  const FrameStrips& strips = analysis.strips;
  const std::string idxs = fmt::format("{}", fmt::join(strips.frame_idxs, ", "));
  page.add_image_row("dense, frames " + idxs, strips.dense);
  page.add_image_row(std::string(name_run(analysis).run), strips.sparse);
  page.add_image_row(describe_difference(strips.gain), strips.difference);
}

// Makes a series with one value per step or frame.
Series make_series(std::string name, const std::vector<double>& values) {
  Series series{.name = std::move(name), .points = {}};
  for (std::size_t i = 0; i < values.size(); ++i) {
    series.points.emplace_back(static_cast<double>(i), values[i]);
  }
  return series;
}

void add_quality(HtmlPage& page, const Analysis& analysis) {
  std::vector<double> psnr, ssim;
  for (const FrameQuality& frame : analysis.frames) {
    psnr.push_back(frame.psnr);
    ssim.push_back(frame.ssim);
  }
  const std::string_view run = name_run(analysis).run;
  const std::string against = fmt::format("{} against dense", run);
  page.add_figure(report::draw_plot(
      {"PSNR of each frame, " + against, "frame", "dB", {make_series("", psnr)}}));
  page.add_figure(report::draw_plot(
      {"SSIM of each frame, " + against, "frame", "SSIM", {make_series("", ssim)}}));
  // Rounding, which differs with the order of the tokens, would take most of the plot.
  std::vector<double> errors = analysis.latents_errors;
  std::ranges::replace_if(errors, [](double error) { return error < 1e-6; }, kNotDrawn);
  page.add_text(
      "Both samplings start from the same noise. Errors below 1e-6 are rounding errors and are not "
      "drawn.");
  page.add_figure(report::draw_plot({"Relative error of the latents, " + against,
                                     "step",
                                     fmt::format("‖dense − {}‖ / ‖dense‖", run),
                                     {make_series("", errors)},
                                     true}));
}

// Draws each step at its noise level. Evaluated steps stand out from a line of skipped ones.
void add_step_kinds(HtmlPage& page, const Analysis& analysis) {
  Series skipped{.name = "skipped", .points = {}};
  Series evaluated{.name = "evaluated", .points = {}, .is_line = false};
  for (int step = 0; step < analysis.request.num_steps; ++step) {
    Series& series = analysis.skips.contains(step) ? skipped : evaluated;
    series.points.emplace_back(step, analysis.noise_levels[static_cast<std::size_t>(step)]);
  }
  page.add_figure(report::draw_plot(
      {"Evaluated and skipped steps", "step", "noise level", {skipped, evaluated}}));
}

std::string explain_velocity_errors(const Analysis& analysis, bool has_estimates) {
  std::string text =
      "The true error of a skipped step is that of its predicted velocity, with guidance, against "
      "the velocity that the transformer gives with dense attention at the same latents and noise "
      "level.";
  if (has_estimates) {
    text += " The rule skips steps while its estimate is below the threshold.";
  }
  if (!analysis.only_skips()) {
    text += " Predictions that follow sparse steps have the error of sparse attention, too.";
  }
  return text;
}

void add_skips(HtmlPage& page, const Analysis& analysis) {
  add_step_kinds(page, analysis);
  const std::optional<SkipSummary> summary = summarise_skips(analysis);
  if (!summary) return;
  const bool has_estimates = summary->mean_estimate.has_value();
  const auto num_steps = static_cast<std::size_t>(analysis.request.num_steps);
  std::vector<double> errors(num_steps, kNotDrawn), estimates(num_steps, kNotDrawn);
  for (const auto& [step, skip] : analysis.skips) {
    errors[static_cast<std::size_t>(step)] = skip.true_error;
    estimates[static_cast<std::size_t>(step)] = skip.estimated_error.value_or(kNotDrawn);
  }
  page.add_text(explain_velocity_errors(analysis, has_estimates));
  Plot plot{"Relative error of the predicted velocity",
            "step",
            "‖predicted − v‖ / ‖v‖",
            {make_series("true", errors)}};
  if (has_estimates) {
    plot.series.push_back(make_series("estimated by the rule", estimates));
  }
  page.add_figure(report::draw_plot(plot));
}

// Round numbers below the least value and above the largest one.
double lowest_tenth(const Grid& grid) {
  double lowest = 1;
  for (const auto& row : grid) {
    for (const double value : row) lowest = std::isnan(value) ? lowest : std::min(lowest, value);
  }
  return std::floor(lowest * 10) / 10;
}

double highest_twentieth(const Grid& grid) {
  double highest = 0;
  for (const auto& row : grid) {
    for (const double value : row) highest = std::isnan(value) ? highest : std::max(highest, value);
  }
  return std::min(1.0, std::ceil(highest * 20) / 20);
}

HeatMap make_layer_map(const Analysis& analysis, std::string title, std::string x_label,
                       Grid values) {
  HeatMap map{.title = std::move(title),
              .x_label = std::move(x_label),
              .y_label = "layer",
              .x_names = {},
              .y_names = number_names(analysis.num_layers()),
              .values = std::move(values)};
  map.x_names = number_names(static_cast<int>(map.values.front().size()));
  return map;
}

void add_recalled(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "The share of the dense softmax that lies on the columns that sparse sites kept; mean over "
      "queries, heads and branches. A site has no cell if it saw everything (at full steps and in "
      "dense layers) or if its step was skipped.");
  const auto add_map = [&](const std::string& by, Grid values) {
    HeatMap map = make_layer_map(analysis, "Attention mass recalled, by layer and " + by, by,
                                 std::move(values));
    map.low = lowest_tenth(map.values);
    page.add_figure(report::draw_heat_map(map));
  };
  add_map("step", average_by_step(analysis, &SparseMeans::recalled));
  page.add_text("Per head, as a mean over the sparse steps:");
  add_map("head", average_by_head(analysis, &SparseMeans::recalled));
}

void add_kept(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "The share of all columns that sparse sites attended to; mean over query groups, heads and "
      "branches. It changes at full steps only, where columns are chosen.");
  HeatMap map = make_layer_map(analysis, "Kept fraction of the columns, by layer and step", "step",
                               average_by_step(analysis, &SparseMeans::kept));
  map.high = highest_twentieth(map.values);
  page.add_figure(report::draw_heat_map(map));
}

void add_errors(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "The error of the attention output of sparse sites, relative to dense attention on the same "
      "queries, keys and values, with each delta and the same columns; mean over layers and "
      "branches.");
  if (const std::string better = describe_better_delta(analysis); !better.empty()) {
    page.add_text(better);
  }
  Plot plot{"Relative error of the attention output, by step",
            "step",
            "‖dense − sparse‖ / ‖dense‖",
            {},
            true};
  std::map<DeltaKind, std::vector<double>> errors;
  for (int step = 0; step < analysis.request.num_steps; ++step) {
    for (const auto& [delta, error] : summarise_step(analysis, step).means.errors) {
      errors[delta].push_back(error);
    }
  }
  for (const DeltaKind delta : kDeltaKinds) {
    const bool is_own = delta == analysis.delta;
    plot.series.push_back(make_series(
        fmt::format("{}{}", delta_name(delta), is_own ? " (configured)" : ""), errors[delta]));
  }
  page.add_figure(report::draw_plot(plot));
}

void add_sparse_sites(HtmlPage& page, const Analysis& analysis) {
  const auto add_section = [&](const char* heading, const auto& add) {
    page.add_heading(heading);
    has_sparse_sites(analysis) ? add(page, analysis) : page.add_text(kNoSparseSites);
  };
  add_section("Attention mass recalled", add_recalled);
  add_section("Columns kept", add_kept);
  add_section("Error of each delta", add_errors);
}

// Times below a hundredth of a second, and ratios of such times, are meaningless.
std::string seconds_cell(double seconds) {
  return seconds < 0.005 ? "below 0.01" : fmt::format("{:.2f}", seconds);
}

std::vector<std::string> time_row(const std::string& name, double dense, double sparse) {
  constexpr double kMeasurable = 0.05;
  const bool has_ratio = std::min(dense, sparse) >= kMeasurable;
  return {name, seconds_cell(dense), seconds_cell(sparse),
          has_ratio ? fmt::format("{:.2f}", dense / sparse) : "–"};
}

void add_times(HtmlPage& page, const Analysis& analysis) {
  const auto row_of = [&](Phase phase, const char* name) {
    const auto seconds = [phase](const RunTimes& times) {
      const auto found = times.seconds.find(phase);
      return found == times.seconds.end() ? 0 : found->second;
    };
    return time_row(name, seconds(analysis.dense), seconds(analysis.sparse));
  };
  std::vector<std::vector<std::string>> rows{row_of(Phase::kText, "text (encoded once)"),
                                             row_of(Phase::kSampling, "sampling")};
  for (const KindTimes& times : split_times(analysis)) {
    const std::string name = fmt::format("{} {} step{}", times.steps.size(), times.kind,
                                         times.steps.size() == 1 ? "" : "s");
    rows.push_back(time_row(name, times.dense_seconds, times.sparse_seconds));
  }
  rows.push_back(row_of(Phase::kDecoding, "decoding"));
  const std::string run(name_run(analysis).run);
  page.add_text(
      fmt::format("From the two runs without measurements. Steps are named by their kind in the {} "
                  "run; the dense run's seconds are those of the same steps.",
                  run));
  page.add_table({"phase", "dense (s)", run + " (s)", "times as fast"}, rows);
  page.add_figure(report::draw_plot({"Seconds of each step",
                                     "step",
                                     "seconds",
                                     {make_series("dense", analysis.dense.step_seconds),
                                      make_series(run, analysis.sparse.step_seconds)}}));
}

void add_products(HtmlPage& page, const std::vector<LayerErrors>& layers) {
  page.add_text(
      "The relative error that the products of the blocks' linear layers would have in 8 bits "
      "(--compute), for the inputs that they had in this video; mean over steps and branches.");
  std::vector<std::string> header{"block", "layers"};
  for (const auto& [type, error] : layers.front().errors) header.emplace_back(name_of(type));
  std::vector<std::vector<std::string>> rows;
  for (const LayerErrors& layer : layers) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {std::to_string(layer.block), std::string(name_of(layer.layers))};
    for (const auto& [type, error] : layer.errors) row.push_back(fmt::format("{:.4f}", error));
  }
  page.add_table(header, rows);
}

// Adds a row for every value of an object, at any depth: "attn.top_keys", "0.15".
void flatten(const OrderedJson& json, const std::string& path,
             std::vector<std::vector<std::string>>& rows) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = path.empty() ? key : fmt::format("{}.{}", path, key);
    if (value.is_object() && !value.empty()) {
      flatten(value, name, rows);
    } else {
      rows.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
    }
  }
}

void add_configuration(HtmlPage& page, const Analysis& analysis, const OrderedJson& recipe) {
  std::vector<std::vector<std::string>> steps;
  for (const KindTimes& times : split_times(analysis)) {
    steps.push_back({std::string(times.kind), fmt::format("{}", fmt::join(times.steps, ", "))});
  }
  page.add_pairs("kind of step", "steps", steps);
  std::vector<std::vector<std::string>> rows{{"version", recipe["version"].get<std::string>()},
                                             {"model", recipe["model"]["dir"].get<std::string>()}};
  flatten(recipe["engine"], "engine", rows);
  flatten(recipe["request"], "", rows);
  page.add_pairs("key", "value", rows);
}

const char* make_title(const Analysis& analysis) {
  if (analysis.only_skips()) return "Skipped steps against all steps";
  return analysis.has_skipping() ? "Sparse attention and skipped steps"
                                 : "Sparse against dense attention";
}

}  // namespace

std::string make_analysis_page(const Analysis& analysis, const OrderedJson& recipe) {
  HtmlPage page(make_title(analysis));
  page.add_text(fmt::format("“{}”", analysis.request.prompt));
  for (const std::string& sentence : judge(analysis)) page.add_lead(sentence);
  add_videos(page, analysis);
  page.add_heading("Frames");
  add_strips(page, analysis);
  page.add_heading("Summary");
  for (const std::string& sentence : summarise_in_words(analysis)) page.add_text(sentence);
  page.add_heading("Quality");
  add_quality(page, analysis);
  if (analysis.has_skipping()) {
    page.add_heading("Skipped steps");
    add_skips(page, analysis);
  }
  if (!analysis.only_skips()) add_sparse_sites(page, analysis);
  if (const auto layers = average_products(analysis); !layers.empty()) {
    page.add_heading("Products in 8 bits");
    add_products(page, layers);
  }
  page.add_heading("Time");
  add_times(page, analysis);
  page.add_heading("Configuration");
  add_configuration(page, analysis, recipe);
  return page.finish();
}

}  // namespace mochi::study
