#include "study/analysis_words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "study/verdict.h"

namespace mochi::study {
namespace {

using RankedDeltas = std::vector<std::pair<double, DeltaKind>>;

std::string percent(double part) { return fmt::format("{:.1f} %", 100 * part); }

double sampling_seconds(const RunTimes& times) { return times.seconds.at(Phase::kSampling); }

// Smallest error first.
RankedDeltas rank_deltas(const Analysis& analysis) {
  const SparseMeans means = summarise_all(analysis);
  RankedDeltas ranked;
  for (const DeltaKind delta : kDeltaKinds) ranked.emplace_back(means.errors.at(delta), delta);
  std::ranges::stable_sort(ranked, {}, [](const auto& entry) { return entry.first; });
  return ranked;
}

std::string describe_quality(const Analysis& analysis) {
  const double psnr = whole_psnr(analysis.frames);
  const std::string_view video = name_run(analysis).video;
  if (std::isinf(psnr)) return fmt::format("The {} is the dense one, byte for byte.", video);
  return fmt::format(
      "The {} has a PSNR of {:.2f} dB and a mean SSIM of {:.4f} against the dense one; "
      "the relative error of its latents is {:.3g}.",
      video, psnr, mean_of(analysis.frames, &FrameQuality::ssim), analysis.latents_errors.back());
}

std::string describe_columns(const Analysis& analysis) {
  const SparseMeans means = summarise_all(analysis);
  return fmt::format(
      "On average, sparse sites kept {} of the columns, which hold {} of the dense attention's "
      "mass.",
      percent(means.kept), percent(means.recalled));
}

std::string describe_errors(const Analysis& analysis) {
  std::vector<std::string> list;
  for (const auto& [error, delta] : rank_deltas(analysis)) {
    list.push_back(fmt::format("{:.3g} with {}", error, delta_name(delta)));
  }
  return fmt::format(
      "With the same columns and inputs, the mean relative error of the attention output of sparse "
      "sites is {}; {} is configured.",
      fmt::join(list, ", "), delta_name(analysis.delta));
}

std::string describe_evaluations(const Analysis& analysis) {
  const std::size_t num_skipped = analysis.skips.size();
  const int num_steps = analysis.request.num_steps;
  if (num_skipped == 0) return fmt::format("All {} steps were evaluated.", num_steps);
  return fmt::format("{} of {} steps were evaluated, {} skipped.",
                     analysis.evaluated_steps().size(), num_steps, num_skipped);
}

std::string compare_estimate(double estimate, double error) {
  constexpr double kNear = 2;
  const bool is_low = estimate * kNear < error;
  const bool is_high = estimate > kNear * error;
  const char* judgement = is_low    ? "less than half of it"
                          : is_high ? "more than twice as much"
                                    : "which is near it";
  return fmt::format("The rule estimated {:.2g} there, {}.", estimate, judgement);
}

std::string describe_skips(const SkipSummary& summary) {
  const std::string mean_estimate =
      summary.mean_estimate ? fmt::format(" (estimated: {:.2g})", *summary.mean_estimate) : "";
  const SkipReport& worst = summary.worst;
  return fmt::format(
      "The velocities that were predicted for skipped steps have a mean relative error of "
      "{:.2g}{}; "
      "the largest, at step {}, is {:.2g}. {}",
      summary.mean_error, mean_estimate, worst.step, worst.true_error,
      worst.estimated_error ? compare_estimate(*worst.estimated_error, worst.true_error)
                            : "The rule estimates no errors.");
}

std::string describe_steps(const Analysis& analysis) {
  std::vector<std::string> sentences;
  for (const KindTimes& times : split_times(analysis)) {
    const auto count = static_cast<double>(times.steps.size());
    sentences.push_back(fmt::format("{} {} step{}: {:.3g} s each ({:.3g} s in the dense run).",
                                    times.steps.size(), times.kind,
                                    times.steps.size() == 1 ? "" : "s",
                                    times.sparse_seconds / count, times.dense_seconds / count));
  }
  return fmt::format("{}", fmt::join(sentences, " "));
}

std::string describe_products(const std::vector<LayerErrors>& layers) {
  double sum = 0;
  for (const LayerErrors& layer : layers) sum += layer.errors.at(ComputeType::kInt8);
  const auto worst = std::ranges::max_element(
      layers, {}, [](const LayerErrors& layer) { return layer.errors.at(ComputeType::kInt8); });
  const std::size_t num_kept = plan_int8(layers).overrides.size();
  const std::string exception =
      num_kept == 0 ? ""
                    : fmt::format(
                          ", except in {} of {} groups, whose error is more than twice the "
                          "median",
                          num_kept, layers.size());
  return fmt::format(
      "In int8, the products of the blocks' linear layers would have a mean relative error of "
      "{:.2g}; the largest, in block {} ({}), is {:.2g}. With --compute-table compute.json, mochi "
      "generate uses int8{}.",
      sum / static_cast<double>(layers.size()), worst->block, name_of(worst->layers),
      worst->errors.at(ComputeType::kInt8), exception);
}

}  // namespace

RunNames name_run(const Analysis& analysis) {
  if (analysis.only_skips()) return {"skipping", "video with skipped steps", kSkippingVideo};
  return {"sparse", "sparse video", kSparseVideo};
}

bool has_sparse_sites(const Analysis& analysis) {
  return std::ranges::any_of(
      analysis.sites, [](const auto& entry) { return entry.second.kind == SiteKind::kSparse; });
}

std::vector<std::string> judge(const Analysis& analysis) {
  std::vector<std::string> sentences{
      make_verdict(analysis.frames),
      describe_gain(sampling_seconds(analysis.dense), sampling_seconds(analysis.sparse))};
  if (analysis.has_skipping()) sentences.push_back(describe_evaluations(analysis));
  return sentences;
}

std::vector<std::string> summarise_in_words(const Analysis& analysis) {
  std::vector<std::string> sentences{describe_quality(analysis)};
  if (has_sparse_sites(analysis)) {
    sentences.push_back(describe_columns(analysis));
    sentences.push_back(describe_errors(analysis));
  } else if (!analysis.only_skips()) {
    sentences.emplace_back(kNoSparseSites);
  }
  if (const auto skips = summarise_skips(analysis)) sentences.push_back(describe_skips(*skips));
  if (const auto layers = average_products(analysis); !layers.empty()) {
    sentences.push_back(describe_products(layers));
  }
  sentences.push_back(describe_steps(analysis));
  return sentences;
}

std::string describe_better_delta(const Analysis& analysis) {
  if (!has_sparse_sites(analysis)) return "";
  const auto [error, best] = rank_deltas(analysis).front();
  const double own_error = summarise_all(analysis).errors.at(analysis.delta);
  if (!(error < own_error)) return "";
  std::string text = fmt::format(
      "By this measure {} is closer than {}, which is configured: {:.3g} against {:.3g}. That does "
      "not decide. Every delta is measured at single sites, on the inputs that the configured one "
      "led to; how errors add up over the steps shows in whole videos only.",
      delta_name(best), delta_name(analysis.delta), error, own_error);
  if (analysis.delta == DeltaKind::kHalfMerge) {
    text += " There half_merge was the closest, over 50 prompts of the micro model.";
  }
  return text + fmt::format(
                    " To find out for your own prompts, set attn.delta to {} and compare the "
                    "verdicts, or let mochi tune try every delta.",
                    delta_name(best));
}

}  // namespace mochi::study
