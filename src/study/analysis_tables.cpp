#include "study/analysis_tables.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <optional>

#include "mochi/mochi.h"

namespace mochi::study {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string cell(double value) { return std::isfinite(value) ? fmt::format("{:.9g}", value) : ""; }

constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

// Errors of the velocity that a skipped step predicted.
struct VelocityErrors {
  double estimated = kNoValue, found = kNoValue;
};

VelocityErrors velocity_errors(const Analysis& analysis, int step) {
  const auto skip = analysis.skips.find(step);
  if (skip == analysis.skips.end()) return {};
  return {skip->second.estimated_error.value_or(kNoValue), skip->second.true_error};
}

std::string error_headers() {
  std::string headers;
  for (const DeltaKind delta : kDeltaKinds) headers += fmt::format(",error_{}", delta_name(delta));
  return headers;
}

std::string error_cells(const std::map<DeltaKind, double>& errors) {
  std::string cells;
  for (const DeltaKind delta : kDeltaKinds) {
    const auto found = errors.find(delta);
    cells += "," + (found == errors.end() ? "" : cell(found->second));
  }
  return cells;
}

// Returns the kind of a branch that did not run at this step, or whose blocks did not.
std::string_view find_gap_kind(const Analysis& analysis, int step) {
  return find_kind(analysis, step) == kCachedKind ? kCachedKind : kSkippedKind;
}

void add_site_rows(const Analysis& analysis, const SiteKey& key, std::string& csv) {
  const auto& [step, is_null_branch, layer] = key;
  const auto site = analysis.sites.find(key);
  if (site == analysis.sites.end() && !analysis.has_branch(step, is_null_branch)) return;
  for (int head = 0; head < analysis.num_heads(); ++head) {
    csv += fmt::format("{},{},{},{},", is_null_branch ? "uncond" : "cond", layer, step, head);
    if (site == analysis.sites.end()) {
      csv += fmt::format("{},,{}\n", find_gap_kind(analysis, step), error_cells({}));
      continue;
    }
    const SiteReport& report = site->second;
    const auto at = static_cast<std::size_t>(head);
    csv += fmt::format("{},{},{}{}\n", kind_name(report.kind), cell(report.kept[at]),
                       cell(report.recalled[at]), error_cells(report.errors));
  }
}

OrderedJson describe_errors(const SparseMeans& means) {
  OrderedJson errors;
  for (const DeltaKind delta : kDeltaKinds) errors[delta_name(delta)] = means.errors.at(delta);
  return errors;
}

OrderedJson describe_step(const Analysis& analysis, int step) {
  const StepSummary summary = summarise_step(analysis, step);
  const VelocityErrors velocity = velocity_errors(analysis, step);
  const auto at = static_cast<std::size_t>(step);
  return {{"step", step},
          {"kind", summary.kind},
          {"noise_level", analysis.noise_levels[at]},
          {"kept", summary.means.kept},
          {"recalled", summary.means.recalled},
          {"errors", describe_errors(summary.means)},
          {"estimated_velocity_error", velocity.estimated},
          {"velocity_error", velocity.found},
          {"latents_error", analysis.latents_errors[at]},
          {"dense_seconds", analysis.dense.step_seconds[at]},
          {"sparse_seconds", analysis.sparse.step_seconds[at]}};
}

// Null if no step was skipped.
OrderedJson describe_velocity_errors(const Analysis& analysis) {
  const std::optional<SkipSummary> summary = summarise_skips(analysis);
  if (!summary) return nullptr;
  return {{"mean", summary->mean_error},
          {"estimated_mean", summary->mean_estimate.value_or(kNoValue)},
          {"largest", summary->worst.true_error},
          {"largest_at_step", summary->worst.step}};
}

OrderedJson describe_products(const Analysis& analysis) {
  OrderedJson list = OrderedJson::array();
  for (const LayerErrors& layer : average_products(analysis)) {
    OrderedJson entry{{"block", layer.block}, {"layers", name_of(layer.layers)}};
    for (const auto& [type, error] : layer.errors) entry[name_of(type)] = error;
    list.push_back(std::move(entry));
  }
  return list;
}

OrderedJson describe_times(const RunTimes& times) {
  OrderedJson json;
  for (const auto& [phase, seconds] : times.seconds) json[std::string(name_of(phase))] = seconds;
  return json;
}

OrderedJson describe_kinds(const Analysis& analysis) {
  OrderedJson kinds;
  for (const KindTimes& times : split_times(analysis)) {
    kinds[std::string(times.kind)] = {{"steps", times.steps},
                                      {"dense_seconds", times.dense_seconds},
                                      {"sparse_seconds", times.sparse_seconds}};
  }
  return kinds;
}

}  // namespace

std::string make_sites_csv(const Analysis& analysis) {
  std::string csv = "branch,layer,step,head,kind,kept,recalled" + error_headers() + "\n";
  for (const bool is_null_branch : {false, true}) {
    for (int layer = 0; layer < analysis.num_layers(); ++layer) {
      for (int step = 0; step < analysis.request.num_steps; ++step) {
        add_site_rows(analysis, {step, is_null_branch, layer}, csv);
      }
    }
  }
  return csv;
}

std::string make_steps_csv(const Analysis& analysis) {
  std::string csv =
      "step,kind,noise_level,kept,recalled" + error_headers() +
      ",estimated_velocity_error,velocity_error,latents_error,dense_seconds,sparse_seconds\n";
  for (int step = 0; step < analysis.request.num_steps; ++step) {
    const StepSummary summary = summarise_step(analysis, step);
    const VelocityErrors velocity = velocity_errors(analysis, step);
    const auto at = static_cast<std::size_t>(step);
    csv += fmt::format(
        "{},{},{},{},{}{},{},{},{},{},{}\n", step, summary.kind, cell(analysis.noise_levels[at]),
        cell(summary.means.kept), cell(summary.means.recalled), error_cells(summary.means.errors),
        cell(velocity.estimated), cell(velocity.found), cell(analysis.latents_errors[at]),
        cell(analysis.dense.step_seconds[at]), cell(analysis.sparse.step_seconds[at]));
  }
  return csv;
}

OrderedJson describe_analysis(const Analysis& analysis) {
  const SparseMeans means = summarise_all(analysis);
  OrderedJson steps = OrderedJson::array();
  for (int step = 0; step < analysis.request.num_steps; ++step) {
    steps.push_back(describe_step(analysis, step));
  }
  OrderedJson frames = OrderedJson::array();
  for (const FrameQuality& frame : analysis.frames) {
    frames.push_back({{"psnr", frame.psnr}, {"ssim", frame.ssim}});
  }
  return {{"kept", means.kept},
          {"recalled", means.recalled},
          {"errors", describe_errors(means)},
          {"velocity_errors", describe_velocity_errors(analysis)},
          {"products", describe_products(analysis)},
          {"latents_error", analysis.latents_errors.back()},
          {"psnr", whole_psnr(analysis.frames)},
          {"ssim", mean_of(analysis.frames, &FrameQuality::ssim)},
          {"is_undisturbed", analysis.is_undisturbed},
          {"speed_up", speed_up(analysis)},
          {"seconds",
           {{"dense", describe_times(analysis.dense)},
            {"sparse", describe_times(analysis.sparse)},
            {"sampling_by_kind", describe_kinds(analysis)}}},
          {"steps", steps},
          {"frames", frames}};
}

}  // namespace mochi::study
