#include "sparsity/column_sparse_policy.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/philox.h"

namespace mochi {
namespace {

constexpr std::uint32_t kSeedStream = 1;  // apart from the draws of select_columns

// A seed of its own for every mask.
std::uint64_t mask_seed(std::uint64_t seed, AttentionSite site, int step) {
  const PhiloxWords words =
      philox_4x32_10({static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(site.layer),
                      static_cast<std::uint32_t>(site.branch), kSeedStream},
                     seed);
  return std::uint64_t{words[0]} << 32 | words[1];
}

std::int64_t fraction_of(double fraction, std::int64_t num_keys) {
  return std::clamp<std::int64_t>(std::llround(fraction * static_cast<double>(num_keys)), 0,
                                  num_keys);
}

// The columns of highest score: a multiple of the tile, or all.
std::int64_t num_top_keys(const AttentionSparsity& attn, std::int64_t num_keys) {
  if (attn.top_keys >= 1) return num_keys;
  const auto tiles = static_cast<double>(num_keys) / attn.counts_multiple_of;
  return std::min<std::int64_t>(std::llround(attn.top_keys * tiles) * attn.counts_multiple_of,
                                num_keys);
}

constexpr std::array<const char*, 2> kBranchNames{"cond", "null"};

std::size_t parse_branch(const std::string& name) {
  for (std::size_t branch = 0; branch < kBranchNames.size(); ++branch) {
    if (name == kBranchNames[branch]) return branch;
  }
  fail("wanted cond or null, found '{}'", name);
}

int parse_layer(const std::string& text) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0) {
    fail("wanted a layer, found '{}'", text);
  }
  return layer;
}

std::vector<std::string> split_at_dots(const std::string& text) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Tensor upload_ints(Backend& backend, const void* values, const Shape& shape) {
  const Tensor host(DType::kI32, shape);
  std::memcpy(host.view().bytes(), values, host.view().size_bytes());
  Tensor tensor(DType::kI32, shape, backend.allocator());
  backend.upload(host, tensor);
  return tensor;
}

}  // namespace

ColumnPlan::ColumnPlan(Context& ctx, const AttentionSparsity& attn, const ColumnBits& fixed,
                       const TensorView& scores, std::uint64_t seed)
    : num_keys_(fixed.num_columns()), group_size_(attn.mbm) {
  Backend& backend = ctx.backend;
  const std::int64_t num_heads = scores.dim(0);
  const std::int64_t num_groups = fixed.num_groups();
  ColumnChoice choice{.scores = scores,
                      .num_keys = num_keys_,
                      .random = attn.random_keys,
                      .seed = seed,
                      .multiple = attn.counts_multiple_of};
  const Tensor fixed_bits =
      upload_ints(backend, fixed.words().data(), {num_groups, fixed.num_words()});
  choice.fixed = fixed_bits;
  choice.min_kept = choice.max_kept = num_top_keys(attn, num_keys_);
  if (attn.top_p > 0) {
    choice.mass = attn.top_p;
    choice.min_kept = fraction_of(attn.min_keys, num_keys_);
    choice.max_kept = fraction_of(attn.max_keys, num_keys_);
  }
  bits_ = Tensor(DType::kI32, {num_heads, num_groups, fixed.num_words()}, backend.allocator());
  const Arena::Scope scope(ctx.scratch);
  const TensorView counts = ctx.scratch.allocate(DType::kI32, {num_heads, num_groups});
  backend.select_columns(choice, bits_, counts);

  const Tensor host_counts(DType::kI32, counts.shape());
  backend.download(counts, host_counts);
  const auto* count = reinterpret_cast<const std::int32_t*>(host_counts.view().bytes());
  index(backend, attn, {count, count + counts.num_elements()});
}

ColumnPlan::ColumnPlan(Backend& backend, const AttentionSparsity& attn, std::int64_t num_keys,
                       const TensorView& bits)
    : num_keys_(num_keys), group_size_(attn.mbm) {
  constexpr std::int64_t kWordBits = ColumnBits::kWordBits;
  const std::int64_t num_groups = (num_keys + attn.mbm - 1) / attn.mbm;
  const std::int64_t num_words = (num_keys + kWordBits - 1) / kWordBits;
  if (bits.dtype() != DType::kI32 || bits.rank() != 3 || bits.dim(1) != num_groups ||
      bits.dim(2) != num_words) {
    fail("wanted I32 [heads, {}, {}], found {} {}", num_groups, num_words, dtype_name(bits.dtype()),
         bits.shape().to_string());
  }
  const auto* word = reinterpret_cast<const std::uint32_t*>(bits.bytes());
  const std::uint32_t unused =
      num_keys % kWordBits == 0 ? 0 : ~std::uint32_t{0} << (num_keys % kWordBits);
  std::vector<std::int32_t> counts;
  for (std::int64_t list = 0; list < bits.dim(0) * num_groups; ++list, word += num_words) {
    std::int32_t count = 0;
    for (std::int64_t i = 0; i < num_words; ++i) count += std::popcount(word[i]);
    if (count == 0 || (word[num_words - 1] & unused) != 0) {
      fail("wanted one or more of {} columns in each list", num_keys);
    }
    counts.push_back(count);
  }
  bits_ = Tensor(DType::kI32, bits.shape(), backend.allocator());
  backend.upload(bits, bits_);
  index(backend, attn, counts);
}

void ColumnPlan::index(Backend& backend, const AttentionSparsity& attn,
                       const std::vector<std::int32_t>& counts) {
  std::vector<std::int32_t> offsets{0};
  for (const std::int32_t count : counts) {
    total_ += count;
    if (total_ > std::numeric_limits<std::int32_t>::max()) fail("a plan of over 2^31 columns");
    offsets.push_back(static_cast<std::int32_t>(total_));
  }
  offsets_ = upload_ints(backend, offsets.data(), {std::ssize(offsets)});
  if (!attn.should_compress_indices) {
    columns_ = Tensor(DType::kI32, {total_}, backend.allocator());
    backend.expand_columns(bits_, {offsets_, columns_, group_size_});
  }
}

ColumnLists ColumnPlan::lists(Context& ctx) const {
  ColumnLists lists{offsets_, columns_, group_size_};
  if (!columns_) {
    lists.columns = ctx.scratch.allocate(DType::kI32, {total_});
    ctx.backend.expand_columns(bits_, lists);
  }
  return lists;
}

double ColumnPlan::kept_fraction() const {
  const std::int64_t num_lists = bits_.view().dim(0) * bits_.view().dim(1);
  return static_cast<double>(total_) / static_cast<double>(num_lists * num_keys_);
}

std::size_t ColumnPlan::size_bytes() const {
  return bits_.view().size_bytes() + offsets_.view().size_bytes() + columns_.view().size_bytes();
}

ColumnSparsePolicy::ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid,
                                       std::uint64_t seed)
    : config_(std::move(config)), grid_(grid), seed_(seed) {
  if (config_.patchify_is_enabled) order_ = voxel_order(grid, voxel_of(config_.attn.mbm));
}

const ColumnBits& ColumnSparsePolicy::fixed_columns(std::int64_t num_tokens) {
  const std::int64_t num_text = num_tokens - grid_.num_tokens();
  auto found = fixed_.find(num_text);
  if (found == fixed_.end()) {
    found = fixed_.emplace(num_text, find_static_columns(config_, grid_, num_text)).first;
  }
  return found->second;
}

void ColumnSparsePolicy::attend(Context& ctx, AttentionSite site, int step,
                                const AttentionInputs& in, const TensorView& out) {
  const StepKind kind = step_kind(config_, step, site.layer);
  if (kind == StepKind::kDense) {
    ctx.backend.attention(in, {out});
    return;
  }
  const Arena::Scope scope(ctx.scratch);
  SiteState& state = sites_[{site.branch, site.layer}];
  // A branch that full steps left out has nothing to be sparse with yet.
  if (kind == StepKind::kFull || !state.plan) {
    run_full(ctx, site, step, in, out, state);
  } else {
    ctx.backend.column_sparse_attention(in, state.plan->lists(ctx), state.delta, {out});
  }
}

void ColumnSparsePolicy::run_full(Context& ctx, AttentionSite site, int step,
                                  const AttentionInputs& in, const TensorView& out,
                                  SiteState& state) {
  const Shape lse_shape{in.q.dim(0), in.q.dim(1)};
  if (!state.lse) {
    state.lse = Tensor(DType::kF32, lse_shape, ctx.backend.allocator());
    ctx.backend.attention(in, {out, state.lse});
    return;
  }
  const TensorView lse = ctx.scratch.allocate(DType::kF32, lse_shape);
  attend_and_choose(ctx, site, step, in, {out, lse}, state);
  ctx.backend.copy(lse, state.lse);
  cache_delta(ctx, resolve_attention(config_, step, site.layer).delta, in, {out, lse}, state);
}

void ColumnSparsePolicy::attend_and_choose(Context& ctx, AttentionSite site, int step,
                                           const AttentionInputs& in, const AttentionOutputs& to,
                                           SiteState& state) {
  if (state.plan && !config_.attn.recompute_mask) {
    ctx.backend.attention(in, to);
    return;
  }
  const AttentionSparsity attn = resolve_attention(config_, step, site.layer);
  const ColumnBits& fixed = fixed_columns(in.k.dim(1));
  const Arena::Scope scope(ctx.scratch);
  const TensorView sums =
      ctx.scratch.allocate(DType::kF32, {in.q.dim(0), fixed.num_groups(), in.k.dim(1)});
  ctx.backend.attention_with_column_sums(in, {state.lse, sums, attn.mbm, attn.score_queries}, to);
  state.plan.emplace(ctx, attn, fixed, sums, mask_seed(seed_, site, step));
}

void ColumnSparsePolicy::cache_delta(Context& ctx, DeltaKind kind, const AttentionInputs& in,
                                     const AttentionOutputs& dense, SiteState& state) const {
  state.delta = {};
  if (kind == DeltaKind::kNone) return;
  Allocator& allocator = ctx.backend.allocator();
  if (!state.cache) {
    state.cache = Tensor(ctx.backend.activation_dtype(), dense.out.shape(), allocator);
  }
  if (kind != DeltaKind::kSubtract && !state.weight) {
    state.weight = Tensor(DType::kF32, dense.lse.shape(), allocator);
  }
  state.delta.cache = state.cache;
  if (kind != DeltaKind::kSubtract) state.delta.weight = state.weight;
  state.delta.is_merged = kind == DeltaKind::kLseMerge;
  const AttentionOutputs sparse{ctx.activation(dense.out.shape()),
                                ctx.scratch.allocate(DType::kF32, dense.lse.shape())};
  ctx.backend.column_sparse_attention(in, state.plan->lists(ctx), {}, sparse);
  ctx.backend.find_delta(dense, sparse, state.delta);
}

TensorView ColumnSparsePolicy::cached_hidden(Branch branch, int step) const {
  const Tensor& hidden = hidden_[static_cast<std::size_t>(branch)];
  return skips_blocks(config_, step) ? hidden.view() : TensorView{};
}

void ColumnSparsePolicy::keep_hidden(Context& ctx, Branch branch, const TensorView& hidden) {
  if (!config_.step_caching.is_enabled) return;
  Tensor& kept = hidden_[static_cast<std::size_t>(branch)];
  if (!kept) kept = Tensor(hidden.dtype(), hidden.shape(), ctx.backend.allocator());
  ctx.backend.copy(hidden, kept);
}

// ---- state: "cond.3.lse", "hidden.null" ----

std::vector<PolicyTensor> ColumnSparsePolicy::save(Backend& backend) const {
  std::vector<PolicyTensor> saved;
  const auto add = [&](const std::string& name, const TensorView& tensor) {
    if (!tensor) return;
    saved.push_back({name, Tensor(tensor.dtype(), tensor.shape())});
    backend.download(tensor, saved.back().tensor);
  };
  for (const auto& [key, state] : sites_) {
    const std::string site = std::string(kBranchNames[static_cast<std::size_t>(key.first)]) + "." +
                             std::to_string(key.second) + ".";
    add(site + "lse", state.lse);
    if (state.plan) add(site + "plan", state.plan->bits());
    add(site + "cache", state.delta.cache);
    add(site + (state.delta.is_merged ? "rest_lse" : "weight"), state.delta.weight);
  }
  for (std::size_t branch = 0; branch < hidden_.size(); ++branch) {
    add(std::string("hidden.") + kBranchNames[branch], hidden_[branch]);
  }
  return saved;
}

void ColumnSparsePolicy::restore(Backend& backend, const std::vector<PolicyTensor>& tensors) {
  sites_.clear();
  // A site's lse comes first: it says how many tokens there are.
  for (const bool is_lse : {true, false}) {
    for (const PolicyTensor& saved : tensors) {
      if (saved.name.ends_with(".lse") == is_lse) restore_one(backend, saved);
    }
  }
}

void ColumnSparsePolicy::restore_one(Backend& backend, const PolicyTensor& saved) try {
  const std::vector<std::string> parts = split_at_dots(saved.name);
  if (parts.size() == 2 && parts[0] == "hidden") {
    Tensor& hidden = hidden_[parse_branch(parts[1])];
    hidden = Tensor(saved.tensor.view().dtype(), saved.tensor.view().shape(), backend.allocator());
    backend.upload(saved.tensor, hidden);
  } else if (parts.size() == 3) {
    const auto branch = static_cast<Branch>(parse_branch(parts[0]));
    restore_site(backend, sites_[{branch, parse_layer(parts[1])}], parts[2], saved);
  } else {
    fail("is not known");
  }
} catch (const Error& error) {
  fail("cached tensor '{}': {}", saved.name, error.what());
}

void ColumnSparsePolicy::restore_site(Backend& backend, SiteState& state, const std::string& part,
                                      const PolicyTensor& saved) const {
  const TensorView& host = saved.tensor.view();
  if (part == "plan") {
    if (!state.lse) fail("has no lse beside it");
    state.plan.emplace(backend, config_.attn, state.lse.view().dim(1), host);
    return;
  }
  const bool is_cache = part == "cache";
  if (host.rank() != 2 || host.dtype() != (is_cache ? backend.activation_dtype() : DType::kF32)) {
    fail("wanted two dimensions of floats, found {} {}", dtype_name(host.dtype()),
         host.shape().to_string());
  }
  Tensor tensor(host.dtype(), host.shape(), backend.allocator());
  backend.upload(host, tensor);
  if (part == "lse") {
    if (host.dim(1) < grid_.num_tokens()) fail("wanted {} tokens or more", grid_.num_tokens());
    state.lse = std::move(tensor);
  } else if (is_cache) {
    state.cache = std::move(tensor);
    state.delta.cache = state.cache;
  } else if (part == "weight" || part == "rest_lse") {
    state.weight = std::move(tensor);
    state.delta.weight = state.weight;
    state.delta.is_merged = part == "rest_lse";
  } else {
    fail("is not known");
  }
}

}  // namespace mochi
