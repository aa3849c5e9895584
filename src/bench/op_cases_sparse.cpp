// Operations of sparse attention, on random columns: no order of them helps a cache.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/parallel_for.h"
#include "bench/op_cases.h"
#include "pipeline/request.h"
#include "sparsity/column_sparse_policy.h"
#include "tensor/float8.h"

namespace mochi::bench {
namespace {

struct Problem {
  TokenGrid grid;
  std::int64_t num_text = 0;
  std::int64_t heads = 0, head_dim = 0;
  SparsityConfig config;

  std::int64_t tokens() const { return grid.num_tokens() + num_text; }
  std::int64_t group_size() const { return config.attn.group_size; }
  std::int64_t groups_of(std::int64_t queries) const {
    return (queries + group_size() - 1) / group_size();
  }
  std::int64_t num_groups() const { return groups_of(tokens()); }
  std::int64_t num_words() const { return (tokens() + 31) / 32; }
  // The last two groups, of which the very last may be shorter.
  std::int64_t num_verified() const {
    return std::min(tokens(),
                    tokens() - std::max<std::int64_t>(num_groups() - 2, 0) * group_size());
  }
  double typical_lse() const { return std::log(static_cast<double>(tokens())) + 0.5; }
  std::string size() const { return fmt::format("{}×{}×{}", heads, tokens(), head_dim); }
};

Problem make_problem(const Sizes& sizes) {
  const Latents latents = size_latents(sizes.config, sizes.video);
  const DitConfig& dit = sizes.config.dit;
  return {
      .grid = {latents.num_frames, latents.height / dit.patch_size, latents.width / dit.patch_size},
      .num_text = sizes.num_text_tokens,
      .heads = dit.num_heads,
      .head_dim = dit.head_dim(),
      .config = sizes.sparsity};
}

struct Lists {
  Tensor offsets, columns;  // as ColumnLists has them, on the host
};

// Fraction kept by groups of even and of odd number.
using Kept = std::array<double, 2>;

std::int64_t count_of(const Problem& problem, double kept) {
  const auto multiple = static_cast<double>(problem.config.attn.counts_multiple_of);
  const auto tokens = static_cast<double>(problem.tokens());
  const auto count = std::llround(std::round(kept * tokens / multiple) * multiple);
  return kept >= 1 ? problem.tokens() : std::clamp<std::int64_t>(count, 1, problem.tokens());
}

// Draws lists for the last num_groups groups of every head. A list depends on its head and group
// alone.
Lists draw_lists(const Problem& problem, const Kept& kept, std::int64_t num_groups) {
  const std::int64_t first_group = problem.num_groups() - num_groups;
  const std::int64_t num_lists = problem.heads * num_groups;
  Lists lists;
  lists.offsets = Tensor(DType::kI32, {num_lists + 1});
  auto* const offsets = reinterpret_cast<std::int32_t*>(lists.offsets.view().bytes());
  offsets[0] = 0;
  const auto group_of = [&](std::int64_t list) { return first_group + list % num_groups; };
  for (std::int64_t list = 0; list < num_lists; ++list) {
    const double part = kept[static_cast<std::size_t>(group_of(list) % 2)];
    offsets[list + 1] = offsets[list] + static_cast<std::int32_t>(count_of(problem, part));
  }
  lists.columns = Tensor(DType::kI32, {offsets[num_lists]});
  auto* const columns = reinterpret_cast<std::int32_t*>(lists.columns.view().bytes());
  parallel_for(0, num_lists, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t list = begin; list < end; ++list) {
      std::mt19937_64 generator(
          static_cast<std::uint64_t>(list / num_groups * problem.num_groups() + group_of(list)));
      std::int32_t* next = columns + offsets[list];
      auto num_missing = static_cast<std::uint64_t>(offsets[list + 1] - offsets[list]);
      for (std::int64_t column = 0; num_missing > 0; ++column) {
        const auto num_left = static_cast<std::uint64_t>(problem.tokens() - column);
        if ((generator() >> 32U) * num_left >> 32U >= num_missing) continue;
        *next++ = static_cast<std::int32_t>(column);
        --num_missing;
      }
    }
  });
  return lists;
}

AttentionInputs make_inputs(const Problem& problem, Inputs& in, std::int64_t rows) {
  AttentionInputs inputs;
  inputs.q = in.activations({problem.heads, rows, problem.head_dim}, 1);
  inputs.k = in.activations({problem.heads, problem.tokens(), problem.head_dim}, kNoRows);
  inputs.v = in.activations({problem.heads, problem.tokens(), problem.head_dim}, kNoRows);
  inputs.scale = 1.0F / std::sqrt(static_cast<float>(problem.head_dim));
  return inputs;
}

// Draws codes for the last rows. Each code depends on its row and column alone.
Tensor draw_codes(const Problem& problem, std::int64_t rows) {
  const std::int64_t width = problem.heads * problem.head_dim;
  Tensor host(DType::kF8E4M3, {rows, width});
  parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::mt19937 generator(static_cast<std::uint32_t>(problem.tokens() - rows + row));
      std::normal_distribution<float> normal(0, 100);
      for (std::int64_t i = 0; i < width; ++i) {
        const std::uint8_t code = f32_to_f8_e4m3(normal(generator));
        host.view().bytes()[row * width + i] = static_cast<std::byte>(code);
      }
    }
  });
  return host;
}

enum class Delta : std::uint8_t { kNone, kActivations, kFp8 };

// A sparse step uses half_merge and no lse; a full step uses no delta, but lse.
OpCase column_attention_case(const Problem& problem, const std::string& what, const Kept& kept,
                             Delta kind) {
  return {.name = "column_sparse_attention " + what,
          .size = problem.size(),
          .num_rows = problem.tokens(),
          .num_verified = problem.num_verified(),
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const std::int64_t width = problem.heads * problem.head_dim;
            const AttentionInputs inputs = make_inputs(problem, in, rows);
            const Lists host = draw_lists(problem, kept, problem.groups_of(rows));
            const ColumnLists lists{in.upload(host.offsets), in.upload(host.columns),
                                    problem.group_size()};
            AttentionOutputs outputs{.out = in.output({rows, width})};
            AttentionDelta delta;
            if (kind == Delta::kNone) {
              outputs.lse = in.output(DType::kF32, {problem.heads, rows}, 1);
            } else {
              // About as much mass as the chosen columns have.
              const auto rest = static_cast<float>((1 - kHalfMergeFollow) * problem.typical_lse());
              if (kind == Delta::kFp8) {
                delta.cache = in.upload(draw_codes(problem, rows));
                delta.cache_scale = in.f32({problem.heads, rows}, 1, {0.01F, 0.002F});
              } else {
                delta.cache = in.activations({rows, width});
              }
              delta.weight = in.f32({problem.heads, rows}, 1, {rest, 0.5F});
              delta.is_merged = true;
              delta.follow = kHalfMergeFollow;
            }
            return [=](Backend& backend) {
              backend.run(ops::ColumnSparseAttention{
                  .in = inputs, .columns = lists, .delta = delta, .to = outputs});
            };
          }};
}

OpCase column_sums_case(const Problem& problem, const std::string& what, std::int64_t stride) {
  return {.name = "attention_with_column_sums" + what,
          .size = problem.size(),
          .num_rows = problem.tokens(),
          .num_verified = problem.num_verified(),
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const AttentionInputs inputs = make_inputs(problem, in, rows);
            const auto lse = static_cast<float>(problem.typical_lse());
            const Shape sums_shape{problem.heads, problem.groups_of(rows), problem.tokens()};
            const TensorView scores_lse = in.f32({problem.heads, rows}, 1, {lse, 0.01F});
            const TensorView sums = in.output(DType::kF32, sums_shape, 1);
            const AttentionOutputs outputs{
                .out = in.output({rows, problem.heads * problem.head_dim}),
                .lse = in.output(DType::kF32, {problem.heads, rows}, 1)};
            return [=](Backend& backend) {
              backend.run(ops::AttentionWithColumnSums{.in = inputs,
                                                       .scores_lse = scores_lse,
                                                       .sums = sums,
                                                       .group_size = problem.group_size(),
                                                       .query_stride = stride,
                                                       .to = outputs});
            };
          }};
}

OpCase find_delta_case(const Problem& problem, bool is_fp8) {
  return {.name = is_fp8 ? "find_delta fp8" : "find_delta",
          .size = problem.size(),
          .num_rows = problem.tokens(),
          .num_verified = problem.num_verified(),
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const std::int64_t width = problem.heads * problem.head_dim;
            const Shape lse_shape{problem.heads, rows};
            const auto lse = static_cast<float>(problem.typical_lse());
            const AttentionOutputs dense{in.activations({rows, width}),
                                         in.f32(lse_shape, 1, {lse, 0.05F})};
            // The mass is so small that its rounding cannot decide between two codes.
            const float less = is_fp8 ? 200.0F : 1.5F;
            const AttentionOutputs sparse{in.activations({rows, width}),
                                          in.f32(lse_shape, 1, {lse - less, 0.05F})};
            AttentionDelta delta{.cache = {},
                                 .weight = in.output(DType::kF32, lse_shape, 1),
                                 .is_merged = true,
                                 .follow = kHalfMergeFollow};
            if (is_fp8) {
              delta.cache = in.upload(Tensor(DType::kF8E4M3, {rows, width}));
              in.add_output(delta.cache, 0);
              delta.cache_scale = in.output(DType::kF32, lse_shape, 1);
            } else {
              delta.cache = in.output({rows, width});
            }
            return [=](Backend& backend) {
              backend.run(ops::FindDelta{.dense = dense, .sparse = sparse, .delta = delta});
            };
          }};
}

// Heavy-tailed scores of one head [groups, tokens]: e^2z of normal z.
Tensor draw_scores(const Problem& problem) {
  Tensor scores(DType::kF32, {problem.num_groups(), problem.tokens()});
  const std::span<float> values = scores.view().f32();
  parallel_for(0, problem.num_groups(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t group = begin; group < end; ++group) {
      std::mt19937_64 generator(static_cast<std::uint64_t>(group));
      std::lognormal_distribution<float> score(0, 2);
      const auto first = static_cast<std::size_t>(group * problem.tokens());
      const auto count = static_cast<std::size_t>(problem.tokens());
      std::ranges::generate(values.subspan(first, count), [&] { return score(generator); });
    }
  });
  return scores;
}

Tensor fixed_bits(const Problem& problem) {
  const ColumnBits bits = find_static_columns(problem.config, problem.grid, problem.num_text);
  Tensor host(DType::kI32, {bits.num_groups(), bits.num_words()});
  std::memcpy(host.view().bytes(), bits.words().data(), host.view().size_bytes());
  return host;
}

ops::SelectColumns make_choice(const Problem& problem, const TensorView& scores,
                               const TensorView& fixed, const TensorView& plan,
                               const TensorView& offsets) {
  const AttentionSparsity& attn = problem.config.attn;
  const std::int64_t num_kept = count_of(problem, attn.top_keys);
  return {.scores = scores,
          .fixed = fixed,
          .num_keys = problem.tokens(),
          .min_kept = num_kept,
          .max_kept = num_kept,
          .random = attn.random_keys,
          .seed = 7,
          .multiple = attn.counts_multiple_of,
          .plan = plan,
          .offsets = offsets};
}

double part_that_differs(const TensorView& got, const TensorView& want) {
  const auto* const a = reinterpret_cast<const std::int32_t*>(got.bytes());
  const auto* const b = reinterpret_cast<const std::int32_t*>(want.bytes());
  std::int64_t num_different = 0;
  for (std::int64_t i = 0; i < want.num_elements(); ++i) num_different += a[i] != b[i] ? 1 : 0;
  return static_cast<double>(num_different) / static_cast<double>(want.num_elements());
}

// All heads have the scores of the first one, but different random columns; the plan of the first
// head is verified.
OpCase select_case(const Problem& problem) {
  const Shape plan_shape{problem.heads, problem.num_groups(), problem.num_words()};
  return {.name = "select_columns",
          .size = fmt::format("{}×{}×{}", problem.heads, problem.num_groups(), problem.tokens()),
          .num_rows = problem.heads,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t heads) -> OpTask {
            const Tensor one = draw_scores(problem);
            const Tensor host(DType::kF32, {heads, problem.num_groups(), problem.tokens()});
            for (std::int64_t head = 0; head < heads; ++head) {
              std::ranges::copy(one.view().f32(), host.view().rows(head, head + 1).f32().begin());
            }
            const TensorView scores = in.upload(host);
            const TensorView fixed = in.upload(fixed_bits(problem));
            const TensorView plan = in.upload(Tensor(DType::kI32, plan_shape));
            const TensorView offsets =
                in.upload(Tensor(DType::kI32, {heads * problem.num_groups() + 1}));
            const ops::SelectColumns choice = make_choice(problem, scores, fixed, plan, offsets);
            in.add_output(plan, 0);
            in.add_output(offsets, 0);
            return [=](Backend& backend) { backend.run(choice); };
          },
          .find_error =
              [=](const RandomInputs& in, Backend& device, Backend& oracle) {
                const Tensor scores = draw_scores(problem);
                const Tensor fixed = fixed_bits(problem);
                const std::int64_t groups = problem.num_groups();
                const Tensor wanted(DType::kI32, {1, groups, problem.num_words()});
                const Tensor offsets(DType::kI32, {groups + 1});
                const TensorView one = scores.view().reshape({1, groups, problem.tokens()});
                oracle.run(make_choice(problem, one, fixed, wanted, offsets));
                const Tensor plan(DType::kI32, plan_shape);
                const Tensor all_offsets(DType::kI32, {problem.heads * groups + 1});
                device.run(ops::Download{.source = in.outputs().at(0).tensor, .host = plan});
                device.run(ops::Download{.source = in.outputs().at(1).tensor, .host = all_offsets});
                return std::max(part_that_differs(plan.view().rows(0, 1), wanted),
                                part_that_differs(all_offsets.view().rows(0, groups + 1), offsets));
              }};
}

OpCase expand_case(const Problem& problem, double kept) {
  const Shape plan_shape{problem.heads, problem.num_groups(), problem.num_words()};
  const Kept both{kept, kept};
  return {.name = "expand_columns",
          .size = fmt::format("{}×{}×{}", problem.heads, problem.num_groups(), problem.tokens()),
          .num_rows = problem.heads,
          .num_verified = problem.heads,
          .make = [=](Inputs& in, std::int64_t) -> OpTask {
            const Lists lists = draw_lists(problem, both, problem.num_groups());
            const Tensor host(DType::kI32, plan_shape);
            std::memset(host.view().bytes(), 0, host.view().size_bytes());
            auto* const words = reinterpret_cast<std::uint32_t*>(host.view().bytes());
            const auto* const offsets =
                reinterpret_cast<const std::int32_t*>(lists.offsets.view().bytes());
            const auto* const columns =
                reinterpret_cast<const std::int32_t*>(lists.columns.view().bytes());
            for (std::int64_t list = 0; list < problem.heads * problem.num_groups(); ++list) {
              for (std::int32_t i = offsets[list]; i < offsets[list + 1]; ++i) {
                words[list * problem.num_words() + columns[i] / 32] |= 1U << (columns[i] % 32);
              }
            }
            const TensorView plan = in.upload(host);
            const ColumnLists target{in.upload(lists.offsets),
                                     in.upload(Tensor(DType::kI32, lists.columns.view().shape())),
                                     problem.group_size()};
            in.add_output(target.columns, 0);
            return [=](Backend& backend) {
              backend.run(ops::ExpandColumns{.plan = plan, .lists = target});
            };
          },
          .find_error =
              [=](const RandomInputs& in, Backend& device, Backend& /*oracle*/) {
                const Lists wanted = draw_lists(problem, both, problem.num_groups());
                const Tensor found(DType::kI32, wanted.columns.view().shape());
                device.run(ops::Download{.source = in.outputs().at(0).tensor, .host = found});
                return part_that_differs(found, wanted.columns);
              }};
}

}  // namespace

std::vector<OpCase> list_sparse_cases(const Sizes& sizes) {
  const Problem problem = make_problem(sizes);
  std::vector<OpCase> cases;
  for (const double kept : {0.03, 0.05, 0.10, 0.17, 0.30, 0.50, 1.0}) {
    const std::string what = fmt::format("{:.0f} %", 100 * kept);
    cases.push_back(column_attention_case(problem, what, {kept, kept}, Delta::kActivations));
  }
  cases.push_back(column_attention_case(problem, "10 and 24 %", {0.10, 0.24}, Delta::kActivations));
  cases.push_back(column_attention_case(problem, "17 % and lse", {0.17, 0.17}, Delta::kNone));
  for (const double kept : {0.05, 0.17}) {
    const std::string what = fmt::format("fp8 {:.0f} %", 100 * kept);
    cases.push_back(column_attention_case(problem, what, {kept, kept}, Delta::kFp8));
  }
  cases.push_back(column_sums_case(problem, "", 1));
  cases.push_back(column_sums_case(problem, " of every 4th query", 4));
  cases.push_back(select_case(problem));
  cases.push_back(expand_case(problem, 0.17));
  cases.push_back(find_delta_case(problem, false));
  cases.push_back(find_delta_case(problem, true));
  return cases;
}

}  // namespace mochi::bench
