// Which columns the query groups of one site attend to, and which hidden columns of a feed-forward
// layer its blocks of tokens compute: both are chosen alike.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "mochi/sparsity.h"
#include "sparsity/attention_policy.h"
#include "sparsity/static_columns.h"

namespace mochi {

// How columns are chosen.
struct ColumnRule {
  explicit ColumnRule(const AttentionSparsity& attn);
  explicit ColumnRule(const MlpSparsity& mlp);

  double top_keys;                    // fraction kept for their scores
  double top_p = 0;                   // above 0: as many instead as hold this part of the scores,
  double min_keys = 0, max_keys = 1;  // within these fractions
  double random_keys;                 // probability of each to be kept as well
  std::int64_t multiple, group_size;  // of the lists' lengths; tokens that share a list
  bool is_packed = true;              // lists are expanded when used
};

// What is chosen has random columns of its own.
enum class PlanKind : std::uint32_t { kAttention = 1, kMlp = 2 };
// A seed for the plans of every site of a generation.
std::uint64_t plan_seed(std::uint64_t seed, PlanKind kind, AttentionSite site);

// [groups, words] i32 on the device.
Tensor upload_bits(Backend& backend, const ColumnBits& bits);

// The columns of every head and group at one site.
class ColumnPlan {
 public:
  // Room for those of [heads, groups, columns]. Their bits are kept in `home`, if there is one,
  // which the caller has to bring to the device; lists of such a plan are expanded when used.
  ColumnPlan(Backend& backend, const ColumnRule& rule, const Shape& scores,
             const TensorView& home = {});
  // From the bits of an earlier plan for so many tokens and columns, on the host. Throws Error when
  // they are none. The caller brings them to `home`, if there is one.
  ColumnPlan(Backend& backend, const ColumnRule& rule, std::int64_t num_tokens,
             std::int64_t num_columns, const TensorView& bits, const TensorView& home = {});

  // Chooses them, by scores [heads, groups, columns] f32. `fixed`, of upload_bits, is of the
  // branch, `seed` of the site, `step` as in ColumnChoice. Takes memory where lists do not stay
  // packed.
  void choose(Context& ctx, const ColumnRule& rule, const TensorView& fixed,
              const TensorView& scores, std::uint64_t seed, const TensorView& step = {});

  // The lists, which live as long as the plan and the scratch scope.
  ColumnLists lists(Context& ctx) const;

  const TensorView& bits() const { return bits_; }
  double kept_fraction(Backend& backend) const;  // of all columns of all heads and groups

 private:
  void unpack(Backend& backend);
  std::int64_t total(Backend& backend) const;  // columns in all lists
  std::int64_t most() const { return bits_.dim(0) * bits_.dim(1) * num_columns_; }

  Tensor own_bits_;  // empty: they are in a home
  TensorView bits_;  // [heads, groups, words] i32
  Tensor offsets_;   // [heads·groups + 1] i32
  Tensor columns_;   // [total] i32, or empty: expanded when used
  bool is_packed_;
  std::int64_t num_columns_, group_size_;
};

}  // namespace mochi
