// Every key of a chipmunk-config.yml, listed once: reading, writing and checking use this list.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "mochi/sparsity.h"

namespace mochi {

// Both ends included.
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

// Queries in a group, and how large a voxel (frames × rows × columns) is that holds as many tokens.
struct VoxelSize {
  int group_size, frames, rows, columns;
};
inline constexpr std::array<VoxelSize, 3> kVoxelSizes{
    {{192, 4, 6, 8}, {128, 4, 4, 8}, {64, 4, 4, 4}}};

// Calls visit(path, member) for switches, sets and names, visit(path, member, range) for numbers.
template <typename Config, typename Visitor>
void visit_sparsity_keys(Config& config, Visitor&& visit) {
  visit("num_model_invocations_per_inference_step", config.num_model_invocations_per_inference_step,
        ValueRange{1, 2});
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
  visit("attn.should_compress_indices", attn.should_compress_indices);
  visit("attn.counts_multiple_of", attn.counts_multiple_of, ValueRange{1, 4096});
  visit("attn.pad_qkv_before_kernel", attn.pad_qkv_before_kernel);
  visit("attn.mbm", attn.mbm, ValueRange{64, 192});
  visit("attn.score_queries", attn.score_queries, ValueRange{1, 64});
  visit("attn.delta", attn.delta);
  visit("attn.cache_dtype", attn.cache_dtype);

  auto& mlp = config.mlp;
  visit("mlp.is_enabled", mlp.is_enabled);
  visit("mlp.is_fp8", mlp.is_fp8);
  visit("mlp.top_keys", mlp.top_keys, kFraction);
  visit("mlp.random_keys", mlp.random_keys, kFraction);
  visit("mlp.full_step_every", mlp.full_step_every, kPositive);
  visit("mlp.block_mask_cache", mlp.block_mask_cache, kPositive);
  visit("mlp.first_n_dense_layers", mlp.first_n_dense_layers, kCount);
  visit("mlp.counts_multiple_of", mlp.counts_multiple_of, ValueRange{1, 4096});
  visit("mlp.bm", mlp.bm, ValueRange{1, 4096});
  visit("mlp.mbm", mlp.mbm, ValueRange{1, 4096});

  auto& offloading = config.offloading;
  visit("offloading.global_disable_offloading", offloading.global_disable_offloading);
  visit("offloading.attn.out_cache", offloading.attn_out_cache);
  visit("offloading.attn.indices", offloading.attn_indices);
  visit("offloading.attn.counts", offloading.attn_counts);
  visit("offloading.attn.lse_constants", offloading.attn_lse_constants);
  visit("offloading.mlp.out_cache", offloading.mlp_out_cache);
  visit("offloading.mlp.indices", offloading.mlp_indices);
  visit("offloading.mlp.counts", offloading.mlp_counts);
  visit("offloading.mlp.sparse_act_T", offloading.mlp_sparse_act_t);
  visit("offloading.mlp.blockmean_mid_cache", offloading.mlp_blockmean_mid_cache);
  visit("offloading.text_encoders", offloading.text_encoders);

  visit("step_caching.is_enabled", config.step_caching.is_enabled);
  visit("step_caching.skip_step_schedule", config.step_caching.skip_step_schedule);
}

// Of one entry of `overrides`, besides layers and steps.
template <typename Override, typename Visitor>
void visit_override_keys(Override& entry, Visitor&& visit) {
  visit("top_keys", entry.top_keys, kFraction);
  visit("top_p", entry.top_p, kFraction);
  visit("random_keys", entry.random_keys, kFraction);
  visit("delta", entry.delta);
}

// Keys of the reference's that say nothing here: its providers, kernels and other methods.
inline constexpr std::array<std::string_view, 17> kKeysWithoutEffect{"should_profile",
                                                                     "generation_index",
                                                                     "world_size",
                                                                     "model_name",
                                                                     "patchify.chunk_size_1",
                                                                     "patchify.chunk_size_2",
                                                                     "attn.provider",
                                                                     "attn.debug",
                                                                     "attn.coverage",
                                                                     "attn.delta_cache",
                                                                     "attn.bm",
                                                                     "attn.indices_pad_to",
                                                                     "mlp.provider",
                                                                     "attn.should_keep_tail_dense",
                                                                     "tea_cache",
                                                                     "token_cache",
                                                                     "mlp.indices_pad_to"};

}  // namespace mochi
