// Settings of sparse attention and sparse feed-forward layers by the method of Chipmunk (Silveria,
// Govande, Arora, Ré, Fu: "Chipmunk: training-free acceleration of diffusion transformers with
// dynamic column-sparse deltas", 2025). docs/sparsity.md explains each key. Standard types only.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mochi {

// How a sparse step accounts for the columns that were not chosen. A is attention over the chosen
// columns at the last full step, O dense attention at that step, C the cached tensor, and A' is
// attention over the chosen columns at the current step.
enum class DeltaKind : std::uint8_t {
  kSubtract,   // C = O − A; the output is A' + C
  kWeighted,   // w is the softmax mass of the chosen columns, C = O − w·A; the output is w·A' + C
  kLseMerge,   // C is attention over the other columns; A' and C are merged by log-sum-exp
  kHalfMerge,  // kLseMerge, and the log-sum-exp of C moves half as far as that of A'
  kNone,       // the output is A'
};
inline constexpr std::array kDeltaKinds{DeltaKind::kSubtract, DeltaKind::kWeighted,
                                        DeltaKind::kLseMerge, DeltaKind::kHalfMerge,
                                        DeltaKind::kNone};
std::string_view delta_name(DeltaKind delta);  // "lse_merge", as configuration files spell it

// Element type of the cached tensors of deltas.
enum class CacheDType : std::uint8_t {
  kActivation,  // type of activations: BF16 on a GPU, F32 on the CPU
  kFp8,         // F8_E4M3 with a scale for each token and head
};

struct AttentionSparsity {
  bool is_enabled = true;
  double top_keys = 0.05;     // fraction of the columns chosen by score
  double top_p = 0;           // if above 0: choose the fewest columns with this share of the scores
  double min_keys = 0.02;     // least fraction chosen by top_p
  double max_keys = 0.5;      // largest fraction chosen by top_p
  double random_keys = 0.01;  // probability that a further column is chosen
  int local_voxels = 0;       // size of the window of voxels that a group always sees
  double local_1d_window = 0;           // window along the token order, as a fraction of the video
  bool full_attn_from_3d_tail = false;  // groups outside whole voxels see every column
  bool full_attn_to_3d_tail = false;    // every group sees the tokens outside whole voxels
  int first_n_dense_layers = 2;
  int full_step_every = 10;                         // without a schedule: steps 0, 1, N, 2N, …
  std::optional<std::set<int>> full_step_schedule;  // replaces full_step_every
  bool recompute_mask = true;                       // choose columns at every full step, not once
  int counts_multiple_of = 128;  // lists of columns have a multiple of this length
  int group_size = 192;          // queries that share a list ("mbm" in files)
  int score_queries = 1;         // every N-th query of a group scores the columns
  DeltaKind delta = DeltaKind::kHalfMerge;
  CacheDType cache_dtype = CacheDType::kActivation;
};

// Feed-forward layers of the visual tokens.
struct MlpSparsity {
  bool is_enabled = false;
  double top_keys = 0.3;      // fraction of the hidden columns recomputed because they changed most
  double random_keys = 0.05;  // probability that a further column is recomputed
  int full_step_every = 10;   // full steps are 0, N, 2N, …
  int block_mask_cache = 2;   // consecutive steps that use the same columns
  int first_n_dense_layers = 2;
  int counts_multiple_of = 256;  // lists of columns have a multiple of this length
  int block_size = 128;          // tokens that share a list ("mbm" in files)
};

// Caches that are moved to host memory when they do not all fit on the device.
struct CacheOffloading {
  bool global_disable_offloading = false;
  bool attn_out_cache = true;  // cached tensors of deltas
  bool attn_indices = true;    // plans: the chosen columns
};

// Steps at which the transformer blocks are skipped and their last result is used again.
struct StepCaching {
  bool is_enabled = false;
  std::set<int> skip_step_schedule;
};

// Which steps of a sampling evaluate the transformer. The first step and all full steps do in any
// case.
enum class SkipRule : std::uint8_t {
  kOff,       // all steps
  kEasy,      // once the velocity has changed by `threshold`, judged by its last two evaluations
  kLine,      // once its distance from the line through its last evaluations reaches `threshold`
  kSchedule,  // the steps of `evaluated_steps`
  kBudget,    // `max_evaluations` steps, spread over the noise levels
};
inline constexpr std::array kSkipRules{SkipRule::kOff, SkipRule::kEasy, SkipRule::kLine,
                                       SkipRule::kSchedule, SkipRule::kBudget};

// How the velocity of a skipped step is predicted.
enum class Extrapolation : std::uint8_t {
  kHold,  // the velocity of the last evaluation
  kLine,  // the line through the last two evaluations, over the logarithm of the signal-to-noise
          // ratio
};

// Steps that do not evaluate the transformer at all, neither its blocks nor its final layer.
struct StepSkipping {
  SkipRule rule = SkipRule::kOff;
  // Error at which the rules easy and line evaluate again; nothing: 0.1 for easy, 0.02 for line.
  std::optional<double> threshold = {};
  Extrapolation extrapolation = Extrapolation::kHold;
  // An evaluation corrects the latents: the skipped steps before it count as if the velocity had
  // gone from the former evaluation to this one along a line over the noise level. Needs kHold.
  bool correct_path = false;
  int warm_up = 4;      // first steps that the rules easy and line evaluate
  int cool_down = 1;    // last steps that they evaluate
  int longest_run = 0;  // most consecutive steps that they skip; 0: any number
  // The unconditional branch takes part in every N-th evaluation and at full steps; in between, its
  // distance from the conditional branch is held.
  int null_every = 1;
  std::set<int> evaluated_steps = {};
  int max_evaluations = 0;
};

// Ready-made step skipping.
enum class SkipTier : std::uint8_t {
  kOff,      // "off": every step is evaluated
  kCareful,  // "careful": differences to the whole sampling are hard to see
  kFast,     // "fast": visible differences in details
};
inline constexpr std::array kSkipTiers{SkipTier::kOff, SkipTier::kCareful, SkipTier::kFast};
std::string_view name_of(SkipTier tier);
std::optional<SkipTier> parse_skip_tier(std::string_view name);
// Returns a tier's rule for a sampling of `num_steps` steps, adapted by adapt_to_few_steps().
StepSkipping make_step_skipping(SkipTier tier, int num_steps);
// Adapts the rules easy and line, whose thresholds are meant for 32 steps or more. With fewer, the
// threshold shrinks with their number; with fewer than 16, nothing is skipped, because every step
// is a long one.
StepSkipping adapt_to_few_steps(StepSkipping skipping, int num_steps);
// Returns a budget. With 15 evaluations or more, the path is corrected; with fewer, the evaluations
// are too far apart for it.
StepSkipping make_step_budget(int max_evaluations);

// A range of integers that includes both ends.
struct IntRange {
  int first = 0;
  int last = std::numeric_limits<int>::max();
  bool contains(int value) const { return first <= value && value <= last; }
};

// Values of some keys for some layers and steps. Of several overrides the last matching one counts.
struct SparsityOverride {
  IntRange layers = {}, steps = {};
  std::optional<double> top_keys = {}, top_p = {}, random_keys = {};
  std::optional<DeltaKind> delta = {};
};

// A configuration. The defaults are Chipmunk's own, except for `delta`, and hold for keys that a
// file leaves out. Steps and layers are counted from 0.
struct SparsityConfig {
  // Number of sampling steps that all schedules of steps are meant for. A generation with another
  // number spreads them over its own steps by noise level. Nothing: they name its own steps.
  std::optional<int> steps = {};
  bool patchify_is_enabled = true;  // order tokens by voxels
  AttentionSparsity attn;
  MlpSparsity mlp;
  CacheOffloading offloading;
  StepCaching step_caching;
  StepSkipping step_skipping;
  std::vector<SparsityOverride> overrides;
};

// A configuration as a file gives it, and what the file's author should know about it.
struct LoadedSparsity {
  SparsityConfig config;
  // Keys that the file gives although another key makes them ineffective: one line each, which
  // begins with the file and the line.
  std::vector<std::string> warnings;
  // Keys of the reference that are accepted and have no effect here.
  std::vector<std::string> ignored_keys;
};

// Reads a chipmunk-config.yml. Throws Error with a line that names the file, the line, the key,
// what was wanted and what was found. A named pipe is waited for until should_stop returns true,
// which ends the call with Cancelled.
LoadedSparsity load_sparsity_config(const std::filesystem::path& path,
                                    const std::function<bool()>& should_stop = {});
// Reads a configuration from text: YAML, or JSON, which is YAML as well. Errors and warnings name
// `source` as the file.
LoadedSparsity parse_sparsity_config(const std::string& text, const std::string& source);

// Writes the keys that have an effect in this configuration, so that reading them gives a
// configuration that does the same and causes no warnings.
std::string to_yaml(const SparsityConfig& config);
std::string to_json(const SparsityConfig& config);

// Throws Error ("attn.top_keys: wanted 0 to 1, found 1.5") if a value is out of range or if values
// contradict each other.
void validate(const SparsityConfig& config);

// Full steps of a generation of `num_steps` steps.
std::set<int> list_full_steps(const SparsityConfig& config, int num_steps);

// Settings that are valid but probably unintended for a generation of `num_steps` steps by a model
// with `num_layers` layers and `num_hidden` hidden columns in its feed-forward layers: one line
// each.
std::vector<std::string> sparsity_warnings(const SparsityConfig& config, int num_steps,
                                           int num_layers, std::int64_t num_hidden);

}  // namespace mochi
