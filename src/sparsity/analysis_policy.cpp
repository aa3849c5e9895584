#include "sparsity/analysis_policy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "base/difference.h"

namespace mochi {
namespace {

// `config` with this delta in all layers at all steps.
SparsityConfig with_delta(SparsityConfig config, DeltaKind delta) {
  config.attn.delta = delta;
  for (SparsityOverride& entry : config.overrides) entry.delta.reset();
  return config;
}

bool has_one_delta(const SparsityConfig& config) {
  return std::ranges::none_of(
      config.overrides, [](const SparsityOverride& entry) { return entry.delta.has_value(); });
}

// Downloads a tensor as F32.
Tensor read(Context& ctx, const TensorView& tensor) {
  const Arena::Scope scope(ctx.scratch);
  const TensorView floats = ctx.scratch.allocate(DType::kF32, tensor.shape());
  ctx.run(ops::Copy{.source = tensor, .target = floats});
  Tensor host(DType::kF32, tensor.shape());
  ctx.run(ops::Download{.source = floats, .host = host});
  return host;
}

// Computes, for each head, the mean length of its groups' lists as a fraction of num_keys.
std::vector<double> find_kept(Context& ctx, const ColumnLists& lists, std::int64_t num_heads,
                              std::int64_t num_keys) {
  const Tensor host(DType::kI32, lists.offsets.shape());
  ctx.run(ops::Download{.source = lists.offsets, .host = host});
  std::vector<std::int32_t> offsets(static_cast<std::size_t>(lists.offsets.dim(0)));
  std::memcpy(offsets.data(), host.view().bytes(), host.view().size_bytes());
  const std::size_t num_groups = (offsets.size() - 1) / static_cast<std::size_t>(num_heads);
  std::vector<double> kept;
  for (std::size_t begin = 0; begin + num_groups < offsets.size(); begin += num_groups) {
    const double total = offsets[begin + num_groups] - offsets[begin];
    kept.push_back(total / static_cast<double>(num_groups) / static_cast<double>(num_keys));
  }
  return kept;
}

// Computes, for each head, the mean of exp(chosen − dense); both are [heads, queries].
std::vector<double> find_recalled(const Tensor& chosen, const Tensor& dense) {
  const auto num_queries = static_cast<std::size_t>(dense.view().dim(1));
  const std::span<const float> chosen_lse = chosen.view().f32();
  const std::span<const float> dense_lse = dense.view().f32();
  std::vector<double> recalled;
  for (std::size_t begin = 0; begin < dense_lse.size(); begin += num_queries) {
    double sum = 0;
    for (std::size_t i = begin; i < begin + num_queries; ++i) {
      sum += std::exp(static_cast<double>(chosen_lse[i]) - dense_lse[i]);
    }
    recalled.push_back(sum / static_cast<double>(num_queries));
  }
  return recalled;
}

}  // namespace

AnalysisPolicy::AnalysisPolicy(const SparsityConfig& config, const TokenGrid& grid,
                               std::uint64_t seed, SiteFn on_site)
    : ColumnSparsePolicy(config, grid, seed), on_site_(std::move(on_site)) {
  for (const DeltaKind delta : kDeltaKinds) {
    if (delta == DeltaKind::kNone) continue;
    if (delta == config.attn.delta && has_one_delta(config)) continue;
    shadows_.try_emplace(delta, with_delta(config, delta), grid, seed);
  }
}

std::string AnalysisPolicy::allocate(Backend& backend, const StateSizes& sizes,
                                     std::uint64_t /*available_bytes*/,
                                     const MessageFn& on_message) {
  for (auto& [delta, shadow] : shadows_) shadow.allocate(backend, sizes, 0, on_message);
  return ColumnSparsePolicy::allocate(backend, sizes, 0, on_message);
}

void AnalysisPolicy::begin_forward(Context& ctx, Branch branch, int step) {
  ColumnSparsePolicy::begin_forward(ctx, branch, step);
  for (auto& [delta, shadow] : shadows_) shadow.begin_forward(ctx, branch, step);
}

void AnalysisPolicy::attend(Context& ctx, Site site, int step, const AttentionInputs& in,
                            const TensorView& out) {
  const bool has_plan = find_plan(site) != nullptr;
  ColumnSparsePolicy::attend(ctx, site, step, in, out);
  SiteReport report{.step = step,
                    .layer = site.layer,
                    .is_null_branch = site.branch == Branch::kNull,
                    .kind = SiteKind::kDense,
                    .kept = {},
                    .recalled = {}};
  const StepKind kind = step_kind(config(), step, site.layer);
  if (kind == StepKind::kSparse && has_plan) {
    report.kind = SiteKind::kSparse;
    measure(ctx, site, step, in, out, report);
  } else {
    const auto num_heads = static_cast<std::size_t>(in.q.dim(0));
    report.kept.assign(num_heads, 1);
    report.recalled.assign(num_heads, 1);
    if (kind != StepKind::kDense) {
      report.kind = SiteKind::kFull;
      const Arena::Scope scope(ctx.scratch);
      const TensorView unused = ctx.activation(out.shape());
      for (auto& [delta, shadow] : shadows_) shadow.attend(ctx, site, step, in, unused);
    }
  }
  on_site_(report);
}

void AnalysisPolicy::measure(Context& ctx, Site site, int step, const AttentionInputs& in,
                             const TensorView& out, SiteReport& report) {
  const Arena::Scope scope(ctx.scratch);
  const ColumnLists lists = find_plan(site)->lists(ctx);
  report.kept = find_kept(ctx, lists, in.q.dim(0), in.k.dim(1));

  const TensorView other = ctx.activation(out.shape());
  const TensorView lse = ctx.scratch.allocate(DType::kF32, {in.q.dim(0), in.q.dim(1)});
  ctx.run(ops::Attention{.in = in, .to = {other, lse}});
  const Tensor dense = read(ctx, other);
  const Tensor dense_lse = read(ctx, lse);
  const auto error_of = [&](const TensorView& found) {
    const Tensor values = read(ctx, found);
    return difference_of(dense.view().f32(), values.view().f32()).relative();
  };
  ctx.run(ops::ColumnSparseAttention{.in = in, .columns = lists, .to = {other, lse}});
  report.recalled = find_recalled(read(ctx, lse), dense_lse);
  report.errors[DeltaKind::kNone] = error_of(other);
  for (auto& [delta, shadow] : shadows_) {
    shadow.attend(ctx, site, step, in, other);
    report.errors[delta] = error_of(other);
  }
  report.errors.try_emplace(config().attn.delta, error_of(out));
}

}  // namespace mochi
