// Measurements of a dense and a sparse video from the same noise.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "io/video_quality.h"
#include "mochi/mochi.h"
#include "study/frame_strips.h"
#include "study/timing_observer.h"

namespace mochi::study {

// Step, whether the branch is the unconditional one, layer.
using SiteKey = std::tuple<int, bool, int>;

struct Analysis {
  GenerateRequest request;                  // the sparse one
  DeltaKind delta = DeltaKind::kHalfMerge;  // the configured one
  RunTimes dense, sparse;
  std::map<SiteKey, SiteReport> sites;
  std::vector<double> latents_errors;  // relative errors after each step
  std::vector<FrameQuality> frames;
  FrameStrips strips;
  bool has_videos = false;      // dense.mp4 and sparse.mp4 were written
  bool is_undisturbed = false;  // the run with measurements has the latents of the sparse run

  int num_layers() const;
  int num_heads() const;
  // Returns whether guidance needs this branch at a step, which may be skipped.
  bool has_branch(int step, bool is_null_branch) const;
};

// Returns "dense", "full" or "sparse".
std::string_view kind_name(SiteKind kind);

// Means over sparse sites; NaN if there are none.
struct SparseMeans {
  double kept, recalled;
  std::map<DeltaKind, double> errors;
};

struct StepSummary {
  std::string_view kind;  // "dense", "full", "sparse", or "skipped" if its blocks were left out
  SparseMeans means;
};
StepSummary summarise_step(const Analysis& analysis, int step);
SparseMeans summarise_all(const Analysis& analysis);

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

}  // namespace mochi::study
