// List of all keys of a chipmunk-config.yml, used for reading, writing and checking.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "mochi/sparsity.h"

namespace mochi {

// A range of values that includes both ends.
struct ValueRange {
  double min = 0;
  double max = 1;
};

inline constexpr ValueRange kCount{0, 1'000'000};
inline constexpr ValueRange kPositive{1, 1'000'000};
inline constexpr ValueRange kFraction{0, 1};

inline constexpr std::array<std::pair<std::string_view, DeltaKind>, 5> kDeltaNames{{
    {"subtract", DeltaKind::kSubtract},
    {"weighted", DeltaKind::kWeighted},
    {"lse_merge", DeltaKind::kLseMerge},
    {"half_merge", DeltaKind::kHalfMerge},
    {"none", DeltaKind::kNone},
}};
inline constexpr std::array<std::pair<std::string_view, CacheDType>, 2> kCacheDTypeNames{{
    {"activation", CacheDType::kActivation},
    {"fp8", CacheDType::kFp8},
}};

inline constexpr std::array<std::pair<std::string_view, SkipRule>, 5> kSkipRuleNames{{
    {"off", SkipRule::kOff},
    {"easy", SkipRule::kEasy},
    {"line", SkipRule::kLine},
    {"schedule", SkipRule::kSchedule},
    {"budget", SkipRule::kBudget},
}};
inline constexpr std::array<std::pair<std::string_view, Extrapolation>, 2> kExtrapolationNames{{
    {"hold", Extrapolation::kHold},
    {"line", Extrapolation::kLine},
}};

// Supported group sizes, each with the voxel (frames × rows × columns) of as many tokens.
struct VoxelSize {
  int group_size, frames, rows, columns;
};
inline constexpr std::array<VoxelSize, 3> kVoxelSizes{
    {{192, 4, 6, 8}, {128, 4, 4, 8}, {64, 4, 4, 4}}};

// Calls visit(path, member, range) for numbers and visit(path, member) for all other keys.
template <typename Config, typename Visitor>
void visit_sparsity_keys(Config& config, Visitor&& visit) {
  visit("steps", config.steps, kPositive);
  visit("patchify.is_enabled", config.patchify_is_enabled);

  auto& attn = config.attn;
  visit("attn.is_enabled", attn.is_enabled);
  visit("attn.top_keys", attn.top_keys, kFraction);
  visit("attn.top_p", attn.top_p, kFraction);
  visit("attn.min_keys", attn.min_keys, kFraction);
  visit("attn.max_keys", attn.max_keys, kFraction);
  visit("attn.random_keys", attn.random_keys, kFraction);
  visit("attn.local_voxels", attn.local_voxels, kCount);
  visit("attn.local_1d_window", attn.local_1d_window, kFraction);
  visit("attn.full_attn_from_3d_tail", attn.full_attn_from_3d_tail);
  visit("attn.full_attn_to_3d_tail", attn.full_attn_to_3d_tail);
  visit("attn.first_n_dense_layers", attn.first_n_dense_layers, kCount);
  visit("attn.full_step_every", attn.full_step_every, kPositive);
  visit("attn.full_step_schedule", attn.full_step_schedule);
  visit("attn.recompute_mask", attn.recompute_mask);
  visit("attn.counts_multiple_of", attn.counts_multiple_of, ValueRange{1, 4096});
  visit("attn.mbm", attn.group_size, kCount);  // one of kVoxelSizes
  visit("attn.score_queries", attn.score_queries, ValueRange{1, 64});
  visit("attn.delta", attn.delta);
  visit("attn.cache_dtype", attn.cache_dtype);

  auto& mlp = config.mlp;
  visit("mlp.is_enabled", mlp.is_enabled);
  visit("mlp.top_keys", mlp.top_keys, kFraction);
  visit("mlp.random_keys", mlp.random_keys, kFraction);
  visit("mlp.full_step_every", mlp.full_step_every, kPositive);
  visit("mlp.block_mask_cache", mlp.block_mask_cache, kPositive);
  visit("mlp.first_n_dense_layers", mlp.first_n_dense_layers, kCount);
  visit("mlp.counts_multiple_of", mlp.counts_multiple_of, ValueRange{1, 4096});
  visit("mlp.mbm", mlp.block_size, ValueRange{1, 4096});

  auto& offloading = config.offloading;
  visit("offloading.global_disable_offloading", offloading.global_disable_offloading);
  visit("offloading.attn.out_cache", offloading.attn_out_cache);
  visit("offloading.attn.indices", offloading.attn_indices);

  visit("step_caching.is_enabled", config.step_caching.is_enabled);
  visit("step_caching.skip_step_schedule", config.step_caching.skip_step_schedule);

  auto& skipping = config.step_skipping;
  visit("step_skipping.rule", skipping.rule);
  visit("step_skipping.threshold", skipping.threshold, ValueRange{0, 1e9});
  visit("step_skipping.extrapolation", skipping.extrapolation);
  visit("step_skipping.correct_path", skipping.correct_path);
  visit("step_skipping.warm_up", skipping.warm_up, kCount);
  visit("step_skipping.cool_down", skipping.cool_down, kCount);
  visit("step_skipping.longest_run", skipping.longest_run, kCount);
  visit("step_skipping.null_every", skipping.null_every, kPositive);
  visit("step_skipping.evaluated_step_schedule", skipping.evaluated_steps);
  visit("step_skipping.max_evaluations", skipping.max_evaluations, kCount);
}

// Calls `visit` for the keys of one entry of `overrides`, except `layers` and `steps`.
template <typename Override, typename Visitor>
void visit_override_keys(Override& entry, Visitor&& visit) {
  visit("top_keys", entry.top_keys, kFraction);
  visit("top_p", entry.top_p, kFraction);
  visit("random_keys", entry.random_keys, kFraction);
  visit("delta", entry.delta);
}

// Type of the value of a key that is not used.
enum class IgnoredType : std::uint8_t { kAny, kSwitch, kNumber };
struct IgnoredKey {
  std::string_view path;
  IgnoredType type;
};

// Keys of the reference that have no effect here: they choose its kernels and buffers, or belong
// to other methods. Only the type of their values is checked.
inline constexpr std::array kIgnoredKeys{
    IgnoredKey{"num_model_invocations_per_inference_step", IgnoredType::kNumber},
    IgnoredKey{"should_profile", IgnoredType::kAny},
    IgnoredKey{"generation_index", IgnoredType::kAny},
    IgnoredKey{"world_size", IgnoredType::kAny},
    IgnoredKey{"model_name", IgnoredType::kAny},
    IgnoredKey{"patchify.chunk_size_1", IgnoredType::kAny},
    IgnoredKey{"patchify.chunk_size_2", IgnoredType::kAny},
    IgnoredKey{"attn.provider", IgnoredType::kAny},
    IgnoredKey{"attn.debug", IgnoredType::kAny},
    IgnoredKey{"attn.coverage", IgnoredType::kAny},
    IgnoredKey{"attn.delta_cache", IgnoredType::kAny},
    IgnoredKey{"attn.bm", IgnoredType::kAny},
    IgnoredKey{"attn.indices_pad_to", IgnoredType::kAny},
    IgnoredKey{"attn.should_keep_tail_dense", IgnoredType::kAny},
    IgnoredKey{"attn.should_compress_indices", IgnoredType::kSwitch},
    IgnoredKey{"attn.pad_qkv_before_kernel", IgnoredType::kSwitch},
    IgnoredKey{"mlp.provider", IgnoredType::kAny},
    IgnoredKey{"mlp.indices_pad_to", IgnoredType::kAny},
    IgnoredKey{"mlp.is_fp8", IgnoredType::kSwitch},  // true is refused if the layers are sparse
    IgnoredKey{"mlp.bm", IgnoredType::kNumber},
    IgnoredKey{"offloading.attn.counts", IgnoredType::kSwitch},
    IgnoredKey{"offloading.attn.lse_constants", IgnoredType::kSwitch},
    IgnoredKey{"offloading.mlp.out_cache", IgnoredType::kSwitch},
    IgnoredKey{"offloading.mlp.indices", IgnoredType::kSwitch},
    IgnoredKey{"offloading.mlp.counts", IgnoredType::kSwitch},
    IgnoredKey{"offloading.mlp.sparse_act_T", IgnoredType::kSwitch},
    IgnoredKey{"offloading.mlp.blockmean_mid_cache", IgnoredType::kSwitch},
    IgnoredKey{"offloading.text_encoders", IgnoredType::kSwitch},
    IgnoredKey{"tea_cache", IgnoredType::kAny},
    IgnoredKey{"token_cache", IgnoredType::kAny},
};

}  // namespace mochi
