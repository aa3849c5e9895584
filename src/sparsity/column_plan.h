// The columns that the query groups of one site attend to, or the hidden columns that the token
// blocks of one feed-forward layer compute. Both are chosen in the same way.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "dit/block_policy.h"
#include "mochi/sparsity.h"
#include "sparsity/static_columns.h"

namespace mochi {

// Rule by which columns are chosen.
struct ColumnRule {
  explicit ColumnRule(const AttentionSparsity& attn);
  explicit ColumnRule(const MlpSparsity& mlp);

  double top_keys;                    // fraction of the columns chosen by score
  double top_p = 0;                   // if above 0: choose this share of the scores instead
  double min_keys = 0, max_keys = 1;  // limits of the fraction chosen by top_p
  double random_keys;                 // probability that a further column is chosen
  std::int64_t multiple;              // lists have a multiple of this length
  std::int64_t group_size;            // tokens that share a list
};

// Each kind of plan draws its own random columns.
enum class PlanKind : std::uint32_t { kAttention = 1, kMlp = 2 };
// Seed of the plans of one site in the generation with the given seed.
std::uint64_t plan_seed(std::uint64_t seed, PlanKind kind, Site site);

// Uploads bits as [groups, words] i32.
Tensor upload_bits(Backend& backend, const ColumnBits& bits);

// The chosen columns of every head and group at one site, stored as bits and expanded to lists for
// each use.
class ColumnPlan {
 public:
  // Allocates a plan for scores of shape [heads, groups, columns]. If `home` is given, the bits are
  // stored in it, and the caller must bring it to the device before each use.
  ColumnPlan(Backend& backend, const ColumnRule& rule, const Shape& scores,
             const TensorView& home = {});
  // Takes over the bits of an earlier plan, which are on the host. Throws Error if they do not fit.
  // If the plan has a `home`, the caller must bring the bits there.
  void restore(Backend& backend, const TensorView& bits);

  // Chooses columns by scores [heads, groups, columns] f32. `fixed`, made by upload_bits(), belongs
  // to the branch, `seed` to the site; `step` is that of ColumnChoice. Allocates nothing.
  void choose(Context& ctx, const ColumnRule& rule, const TensorView& fixed,
              const TensorView& scores, std::uint64_t seed, const TensorView& step = {});

  // Expands the plan to lists, which are valid as long as the plan and the scratch scope.
  ColumnLists lists(Context& ctx) const;

  const TensorView& bits() const { return bits_; }
  // Chosen columns as a fraction of all columns of all heads and groups.
  double kept_fraction(Backend& backend) const;

 private:
  std::int64_t total(Backend& backend) const;  // columns in all lists
  std::int64_t max_total() const { return bits_.dim(0) * bits_.dim(1) * num_columns_; }

  Tensor own_bits_;  // empty if the bits are in a home
  TensorView bits_;  // [heads, groups, words] i32
  Tensor offsets_;   // [heads·groups + 1] i32
  std::int64_t num_columns_, group_size_;
};

}  // namespace mochi
