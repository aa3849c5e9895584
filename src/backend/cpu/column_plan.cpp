// Choice of the columns of query groups, as bit-packed plans.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "base/parallel_for.h"
#include "base/philox.h"

namespace mochi::cpu {
namespace {

std::uint32_t* words_of(const TensorView& tensor) {
  return reinterpret_cast<std::uint32_t*>(tensor.bytes());
}

// Chooses the columns of one head and group at a time.
class Selector {
 public:
  explicit Selector(const ops::SelectColumns& choice)
      : choice_(choice),
        num_words_((choice.num_keys + kPlanWordBits - 1) / kPlanWordBits),
        step_(choice.step ? *words_of(choice.step) : 0),
        ranking_(static_cast<std::size_t>(choice.num_keys)) {}

  // Fills plan [words] and returns the number of columns in it. `scores` [num_keys] may be null.
  std::int64_t select(const float* scores, std::int64_t head, std::int64_t group,
                      std::uint32_t* plan) {
    scores_ = scores;
    plan_ = plan;
    std::copy_n(words_of(choice_.fixed) + group * num_words_, num_words_, plan);
    if (choice_.random > 0) add_random(head, group);
    std::int64_t num_ranked = 0;
    if (scores != nullptr) {
      std::iota(ranking_.begin(), ranking_.end(), 0);
      num_ranked = count_kept();
      add_ranked(0, num_ranked);
    }
    return pad(num_ranked);
  }

 private:
  void set(std::int64_t column) {
    plan_[column / kPlanWordBits] |= std::uint32_t{1} << (column % kPlanWordBits);
  }
  bool has(std::int64_t column) const {
    return (plan_[column / kPlanWordBits] >> (column % kPlanWordBits) & 1U) != 0;
  }

  void add_random(std::int64_t head, std::int64_t group) {
    const double threshold = choice_.random * 4294967296.0;  // one of 2^32 equally likely words
    for (std::int64_t column = 0; column < choice_.num_keys; column += 4) {
      const PhiloxWords words =
          philox_4x32_10({static_cast<std::uint32_t>(column / 4), static_cast<std::uint32_t>(group),
                          static_cast<std::uint32_t>(head), step_},
                         choice_.seed);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(4, choice_.num_keys - column); ++i) {
        if (words[static_cast<std::size_t>(i)] < threshold) set(column + i);
      }
    }
  }

  // Orders by higher score, then by lower column. The bits of positive floats have the order of the
  // floats, and unlike floats they are ordered for every input.
  bool is_before(std::int32_t a, std::int32_t b) const {
    const auto left = std::bit_cast<std::int32_t>(scores_[a]);
    const auto right = std::bit_cast<std::int32_t>(scores_[b]);
    return left != right ? left > right : a < b;
  }

  // Moves the columns that follow the first `begin` in the order to the places up to `end`.
  // Afterwards [begin, end) holds the next ones, in some order.
  void rank(std::int64_t begin, std::int64_t end) {
    if (end <= begin || end >= std::ssize(ranking_)) return;
    std::nth_element(ranking_.begin() + begin, ranking_.begin() + end, ranking_.end(),
                     [this](std::int32_t a, std::int32_t b) { return is_before(a, b); });
  }

  // Returns how many columns are kept for their scores. If that depends on the scores, the first
  // max_kept of the ranking are sorted afterwards.
  std::int64_t count_kept() {
    rank(0, choice_.max_kept);
    if (choice_.min_kept == choice_.max_kept) return choice_.max_kept;
    std::sort(ranking_.begin(), ranking_.begin() + choice_.max_kept,
              [this](std::int32_t a, std::int32_t b) { return is_before(a, b); });
    const double total = std::accumulate(scores_, scores_ + choice_.num_keys, 0.0);
    double held = 0;
    std::int64_t count = 0;
    while (count < choice_.max_kept && (count < choice_.min_kept || held < choice_.mass * total)) {
      held += scores_[ranking_[static_cast<std::size_t>(count)]];
      ++count;
    }
    return count;
  }

  void add_ranked(std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) set(ranking_[static_cast<std::size_t>(i)]);
  }

  // Adds columns up to a multiple: the best of the remaining ones, or the first if there are no
  // scores.
  std::int64_t pad(std::int64_t num_ranked) {
    std::int64_t count = 0;
    for (std::int64_t word = 0; word < num_words_; ++word) count += std::popcount(plan_[word]);
    const std::int64_t wanted = std::min((std::max<std::int64_t>(count, 1) + choice_.multiple - 1) /
                                             choice_.multiple * choice_.multiple,
                                         choice_.num_keys);
    if (scores_ == nullptr) {
      for (std::int64_t column = 0; count < wanted; ++column) count += add(column);
      return count;
    }
    // Some of the next columns of the ranking may already be in the plan; these do not count.
    std::int64_t begin = num_ranked;
    while (count < wanted) {
      const auto end = std::min<std::int64_t>(begin + wanted - count, std::ssize(ranking_));
      rank(begin, end);
      for (; begin < end; ++begin) count += add(ranking_[static_cast<std::size_t>(begin)]);
    }
    return count;
  }

  std::int64_t add(std::int64_t column) {
    if (has(column)) return 0;
    set(column);
    return 1;
  }

  const ops::SelectColumns& choice_;
  std::int64_t num_words_;
  std::uint32_t step_;
  std::vector<std::int32_t> ranking_;
  const float* scores_ = nullptr;
  std::uint32_t* plan_ = nullptr;
};

}  // namespace

void run(Cpu& /*cpu*/, const ops::SelectColumns& op) {
  const std::int64_t num_groups = op.plan.dim(1);
  const float* scores = op.scores ? op.scores.f32().data() : nullptr;
  parallel_for(0, op.plan.dim(0) * num_groups, 1, [&](std::int64_t begin, std::int64_t end) {
    Selector selector(op);
    for (std::int64_t list = begin; list < end; ++list) {
      ints(op.offsets)[list + 1] = static_cast<std::int32_t>(selector.select(
          scores == nullptr ? nullptr : scores + list * op.num_keys, list / num_groups,
          list % num_groups, words_of(op.plan) + list * op.plan.dim(2)));
    }
  });
  ints(op.offsets)[0] = 0;
  std::partial_sum(ints(op.offsets), ints(op.offsets) + op.offsets.num_elements(),
                   ints(op.offsets));
}
template void compute(Cpu&, const ops::SelectColumns&);

void run(Cpu& /*cpu*/, const ops::ExpandColumns& op) {
  const std::int32_t* offsets = ints(op.lists.offsets);
  parallel_for(0, op.plan.dim(0) * op.plan.dim(1), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t list = begin; list < end; ++list) {
      const std::uint32_t* words = words_of(op.plan) + list * op.plan.dim(2);
      std::int32_t* column = ints(op.lists.columns) + offsets[list];
      for (std::int64_t word = 0; word < op.plan.dim(2); ++word) {
        for (std::uint32_t bits = words[word]; bits != 0; bits &= bits - 1) {
          *column++ = static_cast<std::int32_t>(word * kPlanWordBits + std::countr_zero(bits));
        }
      }
    }
  });
}
template void compute(Cpu&, const ops::ExpandColumns&);

}  // namespace mochi::cpu
