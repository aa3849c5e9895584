// The memory of a ColumnSparsePolicy: caches are on the device if they fit, otherwise as configured
// by `offloading`.
#include <algorithm>

#include "base/error.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {
namespace {

constexpr double kGigabyte = 1e9;

std::uint64_t product(std::int64_t a, std::int64_t b) {
  return static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b);
}

CacheOffload::Shapes shapes_of(const AttentionSparsity& attn, const StateSizes& sizes,
                               std::int64_t num_tokens, DType cache_dtype) {
  const std::int64_t num_groups = (num_tokens + attn.group_size - 1) / attn.group_size;
  const std::int64_t num_words = (num_tokens + ColumnBits::kWordBits - 1) / ColumnBits::kWordBits;
  return {.cache = {num_tokens, sizes.num_heads * sizes.head_dim},
          .bits = {sizes.num_heads, num_groups, num_words},
          .cache_dtype = cache_dtype};
}

// Upper bound of the memory that a forward pass needs in addition to weights and caches: that of a
// full step's attention with its scores, or of the feed-forward layer. Measured passes need less;
// the slack is for gaps between the blocks of an arena.
std::uint64_t scratch_bytes(const AttentionSparsity& attn, const StateSizes& sizes,
                            std::uint64_t value_bytes) {
  constexpr double kSlack = 1.25;
  constexpr std::uint64_t kWorkspaces = std::uint64_t{256} << 20;
  const std::int64_t rows = std::max(sizes.num_tokens[0], sizes.num_tokens[1]);
  const std::int64_t num_groups = (rows + attn.group_size - 1) / attn.group_size;
  const std::uint64_t activation = product(rows, sizes.num_heads * sizes.head_dim) * value_bytes;
  const std::uint64_t scores = product(rows, sizes.num_heads * num_groups) * sizeof(float);
  const std::uint64_t attention = 8 * activation + 2 * scores;  // and lists, no longer than scores
  const std::uint64_t mlp = 3 * activation + 3 * product(rows, sizes.mlp_hidden) * value_bytes;
  return static_cast<std::uint64_t>(kSlack * static_cast<double>(std::max(attention, mlp))) +
         kWorkspaces;
}

}  // namespace

std::string ColumnSparsePolicy::place_caches(Backend& backend, const StateSizes& sizes,
                                             std::uint64_t available_bytes,
                                             const MessageFn& on_message) {
  const AttentionSparsity& attn = config_.attn;
  const std::int64_t num_sites = sizes.num_layers - attn.first_n_dense_layers;
  if (available_bytes == 0 || !attn.is_enabled || num_sites <= 0) return {};
  const std::size_t value_bytes = dtype_bytes(backend.activation_dtype());
  const DType cache_dtype = find_cache_dtype(backend);
  // Each query and head has a log-sum-exp, a weight and, with FP8, a scale.
  const std::uint64_t num_floats = attn.cache_dtype == CacheDType::kFp8 ? 3 : 2;
  const bool may_offload = !config_.offloading.global_disable_offloading;
  const bool moves_cache = may_offload && config_.offloading.attn_out_cache;
  const bool moves_bits = may_offload && config_.offloading.attn_indices;
  std::uint64_t all_bytes = 0;
  std::uint64_t moved_bytes = 0;
  std::array<std::optional<CacheOffload::Shapes>, 2> branches;
  for (std::size_t branch = 0; branch < branches.size(); ++branch) {
    if (sizes.num_tokens[branch] == 0) continue;
    CacheOffload::Shapes shapes = shapes_of(attn, sizes, sizes.num_tokens[branch], cache_dtype);
    const std::uint64_t cache =
        product(num_sites, shapes.cache.num_elements()) * dtype_bytes(cache_dtype);
    const std::uint64_t bits =
        product(num_sites, shapes.bits.num_elements()) * sizeof(std::int32_t);
    const std::uint64_t small =
        product(num_sites, sizes.num_heads * sizes.num_tokens[branch]) * num_floats * sizeof(float);
    all_bytes += cache + bits + small;
    moved_bytes += (moves_cache ? cache : 0) + (moves_bits ? bits : 0);
    if (!moves_cache) shapes.cache = {};
    if (!moves_bits) shapes.bits = {};
    branches[branch] = shapes;
  }
  const std::uint64_t scratch = scratch_bytes(attn, sizes, value_bytes);
  const auto in_gigabytes = [](std::uint64_t bytes) {
    return static_cast<double>(bytes) / kGigabyte;
  };
  const std::string facts =
      fmt::format("{:.2f} GB, plus {:.2f} GB for computing; {:.2f} GB are available",
                  in_gigabytes(all_bytes), in_gigabytes(scratch), in_gigabytes(available_bytes));
  if (all_bytes + scratch <= available_bytes) {
    return fmt::format("sparse caches stay on the GPU ({})", facts);
  }
  if (moved_bytes == 0) {
    throw OutOfMemory(
        fmt::format("GPU memory: sparse caches need {}, and the sparsity configuration does not "
                    "allow moving them to host memory (offloading)",
                    facts));
  }
  offload_ = std::make_unique<CacheOffload>(backend, attn.first_n_dense_layers, sizes.num_layers,
                                            branches, on_message);
  return fmt::format("sparse caches: {:.2f} GB are kept in host memory (all caches need {})",
                     in_gigabytes(moved_bytes), facts);
}

std::string ColumnSparsePolicy::allocate(Backend& backend, const StateSizes& sizes,
                                         std::uint64_t available_bytes,
                                         const MessageFn& on_message) {
  std::string placement = place_caches(backend, sizes, available_bytes, on_message);
  num_layers_ = sizes.num_layers;
  step_ = Tensor(DType::kI32, {1}, backend.allocator());
  for (const Branch branch : {Branch::kCond, Branch::kNull}) {
    const std::int64_t num_tokens = sizes.num_tokens[static_cast<std::size_t>(branch)];
    if (!config_.attn.is_enabled || num_tokens == 0) continue;
    fixed_[static_cast<std::size_t>(branch)] =
        upload_bits(backend, find_static_columns(config_, grid_, num_tokens - grid_.num_tokens()));
    for (int layer = config_.attn.first_n_dense_layers; layer < sizes.num_layers; ++layer) {
      sites_.emplace(std::pair(branch, layer), allocate_site(backend, sizes, {branch, layer}));
    }
  }
  mlp_.allocate(backend, sizes);
  return placement;
}

ColumnSparsePolicy::SiteState ColumnSparsePolicy::allocate_site(Backend& backend,
                                                                const StateSizes& sizes,
                                                                Site site) const {
  const AttentionSparsity& attn = config_.attn;
  const std::int64_t num_tokens = sizes.num_tokens[static_cast<std::size_t>(site.branch)];
  const Shape floats{sizes.num_heads, num_tokens};
  SiteState state;
  state.lse = Tensor(DType::kF32, floats, backend.allocator());
  const std::int64_t num_groups = (num_tokens + attn.group_size - 1) / attn.group_size;
  state.plan = std::make_unique<ColumnPlan>(backend, ColumnRule(attn),
                                            Shape{sizes.num_heads, num_groups, num_tokens},
                                            offload_ ? offload_->bits(site) : TensorView());
  const auto is_any = [&](const auto& needs) {  // at this layer, at some step
    return needs(attn.delta) ||
           std::ranges::any_of(config_.overrides, [&](const SparsityOverride& entry) {
             return entry.delta.has_value() && needs(*entry.delta);
           });
  };
  if (!is_any([](DeltaKind kind) { return kind != DeltaKind::kNone; })) return state;
  if (!offload_ || !offload_->cache(site)) {
    state.cache = Tensor(find_cache_dtype(backend), {num_tokens, sizes.num_heads * sizes.head_dim},
                         backend.allocator());
  }
  if (attn.cache_dtype == CacheDType::kFp8) {
    state.cache_scale = Tensor(DType::kF32, floats, backend.allocator());
  }
  const auto has_weight = [](DeltaKind kind) {
    return kind != DeltaKind::kNone && kind != DeltaKind::kSubtract;
  };
  if (is_any(has_weight)) state.weight = Tensor(DType::kF32, floats, backend.allocator());
  return state;
}

}  // namespace mochi
