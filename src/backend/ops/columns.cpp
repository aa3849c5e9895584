#include "backend/ops/columns.h"

#include <fmt/format.h>

#include <limits>

namespace mochi::ops {
namespace {

void check_lists(const Contract& c, const ColumnLists& lists, std::int64_t num_lists) {
  c.rank("columns", lists.columns, 1);
  c.shape("offsets", lists.offsets, {num_lists + 1});
}

}  // namespace

void SelectColumns::check(const Contract& c) const {
  c.rank("plan", plan, 3);
  const std::int64_t heads = plan.dim(0);
  const std::int64_t groups = plan.dim(1);
  const std::int64_t words = (num_keys + kPlanWordBits - 1) / kPlanWordBits;
  c.shape("plan", plan, {heads, groups, words});
  c.shape("offsets", offsets, {heads * groups + 1});
  c.shape("fixed", fixed, {groups, words});
  c.optional_shape("scores", scores, {heads, groups, num_keys});
  c.require(0 <= min_kept && min_kept <= max_kept && max_kept <= num_keys,
            "kept columns are not 0 ≤ min ≤ max ≤ num_keys");
  c.require(multiple > 0, "multiple is not positive");
  c.optional_shape("step", step, {1});
  c.require(heads * groups * num_keys <= std::numeric_limits<std::int32_t>::max(),
            fmt::format("{} lists of up to {} columns are over 2^31", heads * groups, num_keys));
}

void ExpandColumns::check(const Contract& c) const {
  c.rank("plan", plan, 3);
  check_lists(c, lists, plan.dim(0) * plan.dim(1));
}

void FindMovement::check(const Contract& c) const {
  c.rank("means", means, 2);
  c.shape("former", former, means.shape());
  c.rank("scores", scores, 3);
  c.shape("scores", scores, {1, means.dim(0), scores.dim(2)});
  c.shape("means", means, {means.dim(0), 2 * scores.dim(2)});
}

void ColumnSparseMlp::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.rank("w2_rows", w2_rows, 2);
  const std::int64_t hidden = w2_rows.dim(0);
  c.shape("w2_rows", w2_rows, {hidden, x.dim(1)});
  c.shape("w1", w1, {2 * hidden, x.dim(1)});
  const std::int64_t block = columns.group_size;
  c.require(block > 0, "groups of " + std::to_string(block) + " tokens");
  const std::int64_t num_blocks = (x.dim(0) + block - 1) / block;
  c.shape("activations", activations, {x.dim(0), hidden});
  c.shape("out", out, x.shape());
  c.shape("means", means, {num_blocks, 2 * hidden});
  check_lists(c, columns, num_blocks);
}

}  // namespace mochi::ops
