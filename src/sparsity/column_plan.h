// Which columns the query groups of one site attend to.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "mochi/sparsity.h"
#include "sparsity/static_columns.h"

namespace mochi {

// The columns of every head and query group at one site: immutable once chosen.
class ColumnPlan {
 public:
  // Chooses them. `fixed` is of the branch, `seed` of the site and step.
  ColumnPlan(Context& ctx, const AttentionSparsity& attn, const ColumnBits& fixed,
             const TensorView& scores, std::uint64_t seed);
  // From the bits of an earlier plan, on the host. Throws Error when they are none.
  ColumnPlan(Backend& backend, const AttentionSparsity& attn, std::int64_t num_keys,
             const TensorView& bits);

  // The lists, which live as long as the plan and the scratch scope.
  ColumnLists lists(Context& ctx) const;

  const TensorView& bits() const { return bits_.view(); }
  double kept_fraction() const;  // of all columns of all heads and groups

 private:
  // The offsets of lists of these lengths, and the lists if they are not to stay packed.
  void index(Backend& backend, const AttentionSparsity& attn,
             const std::vector<std::int32_t>& counts);

  Tensor bits_;     // [heads, groups, words] i32
  Tensor offsets_;  // [heads·groups + 1] i32
  Tensor columns_;  // [total] i32, or empty: expanded when used
  std::int64_t total_ = 0, num_keys_ = 0, group_size_ = 0;
};

}  // namespace mochi
