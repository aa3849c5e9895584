// What `mochi analyze` measures of a dense and a sparse video from the same noise.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "io/video_quality.h"
#include "mochi/mochi.h"

namespace mochi::study {

struct RunTimes {
  std::map<Phase, double> seconds;   // of each phase
  std::vector<double> step_seconds;  // of each sampling step
};

// PNGs of the same frames of both videos.
struct FrameStrips {
  std::vector<int> frame_idxs;
  std::vector<std::string> dense, sparse, difference;
};

// Step, whether it is the null branch, layer.
using SiteKey = std::tuple<int, bool, int>;

struct Analysis {
  GenerateRequest request;                 // the sparse one
  DeltaKind delta = DeltaKind::kSubtract;  // that is configured
  RunTimes dense, sparse;
  std::map<SiteKey, SiteReport> sites;
  std::vector<double> latents_errors;  // of the sparse latents after each step
  std::vector<FrameQuality> frames;
  FrameStrips strips;
  bool is_undisturbed = false;  // the sampling that was watched gave the latents of the other

  int num_layers() const;
  int num_heads() const;
  // Whether guidance wants this branch at a step, be it skipped or not.
  bool has_branch(int step, bool is_null_branch) const;
};

// "dense", "full", "sparse".
std::string_view kind_name(SiteKind kind);

// Means over sparse sites; NaN where there are none.
struct SparseMeans {
  double kept, recalled;
  std::map<DeltaKind, double> errors;
};

struct StepSummary {
  std::string_view kind;  // "dense", "full", "sparse", or "skipped": its blocks were left out
  SparseMeans means;
};
StepSummary summarise_step(const Analysis& analysis, int step);
SparseMeans summarise_all(const Analysis& analysis);

// Layer by step, [layer][step], and layer by head, [layer][head]; of kept or recalled.
using Grid = std::vector<std::vector<double>>;
Grid average_by_step(const Analysis& analysis, double SparseMeans::* value);
Grid average_by_head(const Analysis& analysis, double SparseMeans::* value);

// Seconds of both samplings at the steps of each kind that occurs.
struct KindTimes {
  std::string_view kind;
  std::vector<int> steps;
  double dense_seconds = 0, sparse_seconds = 0;
};
std::vector<KindTimes> split_times(const Analysis& analysis);

}  // namespace mochi::study
