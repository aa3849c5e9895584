// How the sparsity is set: Chipmunk (Silveria, Govande, Arora, Ré, Fu: "Chipmunk: training-free
// acceleration of diffusion transformers with dynamic column-sparse deltas", 2025). Its keys and
// their meaning: docs/sparsity.md. Standard types only.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mochi {

// What a sparse step adds to attention over the chosen columns, A, to make up for the others. O and
// C are the dense output and what is cached, both of the last full step.
enum class DeltaKind : std::uint8_t {
  kSubtract,   // C = O − A; A' + C
  kWeighted,   // w = softmax mass of the chosen columns, C = O − w·A; w·A' + C
  kLseMerge,   // C and its log-sum-exp are the other columns' own attention; both are merged
  kHalfMerge,  // the same, and that log-sum-exp moves half as far as that of A'
  kNone,       // nothing: attention over the chosen columns alone
};
inline constexpr std::array kDeltaKinds{DeltaKind::kSubtract, DeltaKind::kWeighted,
                                        DeltaKind::kLseMerge, DeltaKind::kHalfMerge,
                                        DeltaKind::kNone};
std::string_view delta_name(DeltaKind delta);  // "lse_merge", as files have it

// What the deltas' tensors are kept as from a full step to the next.
enum class CacheDType : std::uint8_t {
  kActivation,  // as they are computed: BF16 on a GPU, F32 on the CPU
  kFp8,         // F8_E4M3, with a scale for each token and head
};

struct AttentionSparsity {
  bool is_enabled = true;
  double top_keys = 0.05;               // fraction of the columns kept for their scores
  double top_p = 0;                     // instead: the fewest columns that hold this mass; 0: off
  double min_keys = 0.02;               // least fraction that top_p keeps
  double max_keys = 0.5;                // largest fraction that top_p keeps
  double random_keys = 0.01;            // probability of each further column
  int local_voxels = 0;                 // window of voxels that a group always sees
  double local_1d_window = 0;           // window along the token order, as a fraction of the video
  bool full_attn_from_3d_tail = false;  // groups outside whole voxels see every column
  bool full_attn_to_3d_tail = false;    // every group sees the tokens outside whole voxels
  int first_n_dense_layers = 2;
  int full_step_every = 10;
  std::optional<std::set<int>> full_step_schedule;  // instead of full_step_every
  bool recompute_mask = true;                       // at every full step, not at the first only
  bool should_compress_indices = true;
  int counts_multiple_of = 128;
  bool pad_qkv_before_kernel = true;  // no effect here: kernels take any length
  int mbm = 192;                      // queries in a group
  int score_queries = 1;              // columns are scored by every s-th query of a group
  DeltaKind delta = DeltaKind::kSubtract;
  CacheDType cache_dtype = CacheDType::kActivation;
};

// Of the visual tokens' feed-forward layers.
struct MlpSparsity {
  bool is_enabled = false;
  bool is_fp8 = false;        // refused together with is_enabled: there are no 8-bit products
  double top_keys = 0.3;      // fraction of the hidden columns computed anew for their movement
  double random_keys = 0.05;  // probability of each further column
  int full_step_every = 10;   // full steps: 0 and every so many
  int block_mask_cache = 2;   // steps that use the same columns
  int first_n_dense_layers = 2;
  int counts_multiple_of = 256;
  int bm = 128;   // no effect here
  int mbm = 128;  // tokens in a block, which share their columns
};

// Which caches leave the device while they are not used.
struct CacheOffloading {
  bool global_disable_offloading = false;
  bool attn_out_cache = true;
  bool attn_indices = true;
  bool attn_counts = false;
  bool attn_lse_constants = false;
  bool mlp_out_cache = false;
  bool mlp_indices = false;
  bool mlp_counts = false;
  bool mlp_sparse_act_t = false;
  bool mlp_blockmean_mid_cache = false;
  bool text_encoders = true;
};

struct StepCaching {
  bool is_enabled = false;
  std::set<int> skip_step_schedule;
};

// Both ends included.
struct IntRange {
  int first = 0;
  int last = std::numeric_limits<int>::max();
  bool contains(int value) const { return first <= value && value <= last; }
};

// Other values of some keys, for some layers and steps. The last one that fits decides.
struct SparsityOverride {
  IntRange layers = {}, steps = {};
  std::optional<double> top_keys = {}, top_p = {}, random_keys = {};
  std::optional<DeltaKind> delta = {};
};

// Chipmunk's own defaults: those of keys that a file leaves out.
struct SparsityConfig {
  int num_model_invocations_per_inference_step = 2;
  int steps = 64;  // no effect here: the generation's own number counts
  bool patchify_is_enabled = true;
  AttentionSparsity attn;
  MlpSparsity mlp;
  CacheOffloading offloading;
  StepCaching step_caching;
  std::vector<SparsityOverride> overrides;
};

// Reads a chipmunk-config.yml: the keys that it names, Chipmunk's defaults for the others. Throws
// with a line that names the file, the line, the key, what was wanted and what was found.
SparsityConfig load_sparsity_config(const std::filesystem::path& path);
// The same from text; `source` names it in errors. JSON is YAML, too.
SparsityConfig parse_sparsity_config(const std::string& text, const std::string& source);
// All keys with their values, as parse_sparsity_config reads them.
std::string to_yaml(const SparsityConfig& config);
std::string to_json(const SparsityConfig& config);

// The full steps of a generation of so many steps.
std::set<int> list_full_steps(const SparsityConfig& config, int num_steps);

// What is allowed but probably not meant, for a generation of so many steps and a model of so many
// layers and hidden columns in feed-forward layers: steps in schedules that it does not have, for
// example. A line each.
std::vector<std::string> find_doubts(const SparsityConfig& config, int num_steps, int num_layers,
                                     std::int64_t num_hidden);

}  // namespace mochi
