#include "study/analysis_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/progress_display.h"
#include "report/html_page.h"
#include "report/svg_plot.h"

namespace mochi::study {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> number_names(int count) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

std::string percent(double part) { return fmt::format("{:.1f} %", 100 * part); }

double sampling_seconds(const RunTimes& times) { return times.seconds.at(Phase::kSampling); }

std::string describe_quality(const Analysis& analysis) {
  const double psnr = whole_psnr(analysis.frames);
  if (std::isinf(psnr)) return "The sparse video is the dense one, byte for byte.";
  return fmt::format(
      "The sparse video has a PSNR of {:.2f} dB and a mean SSIM of {:.4f} against the dense one; "
      "the relative error of its latents is {:.3g}.",
      psnr, mean_of(analysis.frames, &FrameQuality::ssim), analysis.latents_errors.back());
}

std::string describe_errors(const Analysis& analysis, const SparseMeans& means) {
  std::vector<std::pair<double, std::string_view>> ranked;
  ranked.reserve(kDeltaKinds.size());
  for (const DeltaKind delta : kDeltaKinds) {
    ranked.emplace_back(means.errors.at(delta), delta_name(delta));
  }
  std::ranges::stable_sort(ranked, {}, [](const auto& entry) { return entry.first; });
  std::string list;
  for (const auto& [error, name] : ranked) {
    list += fmt::format("{}{:.3g} with {}", list.empty() ? "" : ", ", error, name);
  }
  return fmt::format(
      "With the same columns and inputs, the attention output of sparse sites is off by a relative "
      "error of {} (means); {} is configured.",
      list, delta_name(analysis.delta));
}

std::string describe_speed(const Analysis& analysis) {
  std::string text =
      fmt::format("Sampling took {} dense and {} sparse, which is {:.2f} times as fast.",
                  format_seconds(sampling_seconds(analysis.dense)),
                  format_seconds(sampling_seconds(analysis.sparse)),
                  sampling_seconds(analysis.dense) / sampling_seconds(analysis.sparse));
  for (const KindTimes& times : split_times(analysis)) {
    const auto count = static_cast<double>(times.steps.size());
    text += fmt::format(" {} {} step{}: {:.3g} s each ({:.3g} s in the dense run).",
                        times.steps.size(), times.kind, times.steps.size() == 1 ? "" : "s",
                        times.sparse_seconds / count, times.dense_seconds / count);
  }
  return text;
}

bool has_sparse_sites(const Analysis& analysis) {
  return std::ranges::any_of(
      analysis.sites, [](const auto& entry) { return entry.second.kind == SiteKind::kSparse; });
}

void add_strips(HtmlPage& page, const FrameStrips& strips) {
  const std::string idxs = fmt::format("{}", fmt::join(strips.frame_idxs, ", "));
  page.add_image_row("dense, frames " + idxs, strips.dense);
  page.add_image_row("sparse", strips.sparse);
  page.add_image_row("difference of the two, four times as strong; black where they are equal",
                     strips.difference);
}

// A value for each step or frame.
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
  page.add_svg(draw_plot(
      {"PSNR of each frame, sparse against dense", "frame", "dB", {make_series("", psnr)}}));
  page.add_svg(draw_plot(
      {"SSIM of each frame, sparse against dense", "frame", "SSIM", {make_series("", ssim)}}));
  // Rounding, which differs with the order of the tokens, would take most of the plot.
  std::vector<double> errors = analysis.latents_errors;
  std::ranges::replace_if(errors, [](double error) { return error < 1e-6; }, kNan);
  page.add_text(
      "The two samplings start from the same noise. After each step (below 1e-6, which is "
      "rounding, nothing is drawn):");
  page.add_svg(draw_plot({"Relative error of the latents, sparse against dense",
                          "step",
                          "‖dense − sparse‖ / ‖dense‖",
                          {make_series("", errors)},
                          true}));
}

// From a round number below the least of the values, or above the largest, to the other end.
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

constexpr const char* kNoSparseSites =
    "No site of this sampling was sparse: all attention was dense.";

void add_recalled(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "How much of the dense softmax's mass lies on the columns that sparse sites kept: mean over "
      "queries, heads and branches. No cell: the site saw everything (a full step, a dense layer), "
      "or its step was skipped.");
  const auto add_map = [&](const std::string& by, Grid values) {
    HeatMap map = make_layer_map(analysis, "Attention mass recalled, by layer and " + by, by,
                                 std::move(values));
    map.low = lowest_tenth(map.values);
    page.add_svg(draw_heat_map(map));
  };
  add_map("step", average_by_step(analysis, &SparseMeans::recalled));
  page.add_text("And of each head, mean over the sparse steps:");
  add_map("head", average_by_head(analysis, &SparseMeans::recalled));
}

void add_kept(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "The part of all columns that sparse sites attended to: mean over query groups, heads and "
      "branches. It changes only where columns are chosen, at full steps.");
  HeatMap map = make_layer_map(analysis, "Kept fraction of the columns, by layer and step", "step",
                               average_by_step(analysis, &SparseMeans::kept));
  map.high = highest_twentieth(map.values);
  page.add_svg(draw_heat_map(map));
}

void add_errors(HtmlPage& page, const Analysis& analysis) {
  page.add_text(
      "How far the attention output of sparse sites is from dense attention on the same queries, "
      "keys and values, with each delta and the same columns: mean over layers and branches.");
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
  page.add_svg(draw_plot(plot));
}

std::vector<std::string> time_row(const std::string& name, double dense, double sparse) {
  return {name, fmt::format("{:.2f}", dense), fmt::format("{:.2f}", sparse),
          sparse > 0 ? fmt::format("{:.2f}", dense / sparse) : ""};
}

void add_times(HtmlPage& page, const Analysis& analysis) {
  const auto row_of = [&](Phase phase, const char* name) {
    const auto seconds = [phase](const RunTimes& times) {
      const auto found = times.seconds.find(phase);
      return found == times.seconds.end() ? 0 : found->second;
    };
    return time_row(name, seconds(analysis.dense), seconds(analysis.sparse));
  };
  std::vector<std::vector<std::string>> rows{row_of(Phase::kText, "text"),
                                             row_of(Phase::kSampling, "sampling")};
  for (const KindTimes& times : split_times(analysis)) {
    const std::string name = fmt::format("of these, {} {} step{}", times.steps.size(), times.kind,
                                         times.steps.size() == 1 ? "" : "s");
    rows.push_back(time_row(name, times.dense_seconds, times.sparse_seconds));
  }
  rows.push_back(row_of(Phase::kDecoding, "decoding"));
  page.add_text(
      "Of the two samplings that nobody watched. Steps are named by what the sparse run does at "
      "them; the dense run's seconds are those of the same steps.");
  page.add_table({"phase", "dense / s", "sparse / s", "times as fast"}, rows);
  page.add_svg(draw_plot({"Seconds of each step",
                          "step",
                          "seconds",
                          {make_series("dense", analysis.dense.step_seconds),
                           make_series("sparse", analysis.sparse.step_seconds)}}));
}

// "attn.top_keys" → "0.15", for every value of an object, however deep.
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
  page.add_table({"kind of step", "steps"}, steps);
  std::vector<std::vector<std::string>> rows{{"version", recipe["version"].get<std::string>()},
                                             {"model", recipe["model"]["dir"].get<std::string>()}};
  flatten(recipe["engine"], "engine", rows);
  flatten(recipe["request"], "", rows);
  page.add_table({"key", "value"}, rows);
}

}  // namespace

std::vector<std::string> summarise_in_words(const Analysis& analysis) {
  std::vector<std::string> sentences{describe_quality(analysis)};
  if (has_sparse_sites(analysis)) {
    const SparseMeans means = summarise_all(analysis);
    sentences.push_back(fmt::format(
        "Sparse sites kept {} of the columns, which hold {} of the dense attention's mass (means).",
        percent(means.kept), percent(means.recalled)));
    sentences.push_back(describe_errors(analysis, means));
  } else {
    sentences.emplace_back(kNoSparseSites);
  }
  sentences.push_back(describe_speed(analysis));
  return sentences;
}

std::string make_analysis_page(const Analysis& analysis, const OrderedJson& recipe) {
  HtmlPage page("Sparse against dense attention: " + analysis.request.prompt);
  page.add_heading("Summary");
  for (const std::string& sentence : summarise_in_words(analysis)) page.add_text(sentence);
  page.add_heading("Frames");
  add_strips(page, analysis.strips);
  page.add_heading("Quality");
  add_quality(page, analysis);
  const auto add_of_sparse_sites = [&](const char* heading, const auto& add) {
    page.add_heading(heading);
    has_sparse_sites(analysis) ? add(page, analysis) : page.add_text(kNoSparseSites);
  };
  add_of_sparse_sites("Attention mass recalled", add_recalled);
  add_of_sparse_sites("Columns kept", add_kept);
  add_of_sparse_sites("Error of each delta", add_errors);
  page.add_heading("Time");
  add_times(page, analysis);
  page.add_heading("Configuration");
  add_configuration(page, analysis, recipe);
  return page.finish();
}

}  // namespace mochi::study
