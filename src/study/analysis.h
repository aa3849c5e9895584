// Measurements of two videos from the same noise: one of all steps with dense attention, and one
// with sparse attention, skipped steps or both, which is called the sparse one here.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "io/video_quality.h"
#include "mochi/mochi.h"
#include "study/frame_strips.h"
#include "study/timing_observer.h"

namespace mochi::study {

// Files of the videos; the sparse one's name depends on Analysis::only_skips().
inline constexpr const char* kDenseVideo = "dense.mp4";
inline constexpr const char* kSparseVideo = "sparse.mp4";
inline constexpr const char* kSkippingVideo = "skipping.mp4";

// Step, whether the branch is the unconditional one, layer.
using SiteKey = std::tuple<int, bool, int>;

struct Analysis {
  GenerateRequest request;                  // the sparse one
  DeltaKind delta = DeltaKind::kHalfMerge;  // the configured one
  RunTimes dense, sparse;
  std::map<SiteKey, SiteReport> sites;
  std::map<int, SkipReport> skips;      // by step
  std::vector<ProductReport> products;  // none if the blocks' weights are streamed
  std::vector<double> noise_levels;     // before each step, and after the last one
  std::vector<double> latents_errors;   // relative errors after each step
  std::vector<FrameQuality> frames;
  FrameStrips strips;
  bool has_videos = false;      // both videos were written
  bool is_undisturbed = false;  // the run with measurements has the latents of the sparse run

  int num_layers() const;
  int num_heads() const;
  // Returns whether guidance needs this branch at a step, which may be skipped.
  bool has_branch(int step, bool is_null_branch) const;
  // Returns whether steps may be skipped.
  bool has_skipping() const;
  // Returns whether skipped steps are all that distinguishes the sparse run from the dense one.
  bool only_skips() const;
  std::vector<int> evaluated_steps() const;
};

// Returns "dense", "full" or "sparse".
std::string_view kind_name(SiteKind kind);

// Means over sparse sites; NaN if there are none.
struct SparseMeans {
  double kept, recalled;
  std::map<DeltaKind, double> errors;
};

// Kinds of steps in addition to those of kind_name(): step caching left the blocks out, step
// skipping left the whole step out.
inline constexpr std::string_view kCachedKind = "cached", kSkippedKind = "skipped";
// Returns the kind of a step, which is that of its sparse layers; those that are always dense do
// not count.
std::string_view find_kind(const Analysis& analysis, int step);

struct StepSummary {
  std::string_view kind;
  SparseMeans means;
};
StepSummary summarise_step(const Analysis& analysis, int step);
SparseMeans summarise_all(const Analysis& analysis);

// Errors of the velocities that skipped steps predicted.
struct SkipSummary {
  double mean_error = 0;
  std::optional<double> mean_estimate;  // nothing for rules that make no estimates
  SkipReport worst;                     // the step with the largest error
};
// Returns nothing if no step was skipped.
std::optional<SkipSummary> summarise_skips(const Analysis& analysis);

// The error of one block's layers in each 8-bit type, as a mean over steps and branches.
struct LayerErrors {
  int block = 0;
  LayerGroup layers = LayerGroup::kAttention;
  std::map<ComputeType, double> errors;
};
// Sorted by block.
std::vector<LayerErrors> average_products(const Analysis& analysis);
// Returns a plan in which all of these layers multiply in int8, except those whose error is more
// than twice the median.
ComputePlan plan_int8(const std::vector<LayerErrors>& layers);

// Means of kept or recalled, as [layer][step] and as [layer][head].
using Grid = std::vector<std::vector<double>>;
Grid average_by_step(const Analysis& analysis, double SparseMeans::* value);
Grid average_by_head(const Analysis& analysis, double SparseMeans::* value);

// Seconds of both samplings at the steps of one kind.
struct KindTimes {
  std::string_view kind;
  std::vector<int> steps;
  double dense_seconds = 0, sparse_seconds = 0;
};
// Returns the kinds that occur.
std::vector<KindTimes> split_times(const Analysis& analysis);
// Returns how many times as fast the sparse sampling was.
double speed_up(const Analysis& analysis);

}  // namespace mochi::study
