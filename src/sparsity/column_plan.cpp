#include "sparsity/column_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/philox.h"

namespace mochi {
namespace {

std::int64_t fraction_of(double fraction, std::int64_t num_columns) {
  return std::clamp<std::int64_t>(std::llround(fraction * static_cast<double>(num_columns)), 0,
                                  num_columns);
}

// Number of columns chosen by score: a multiple of the tile, or all columns.
std::int64_t num_top_keys(const ColumnRule& rule, std::int64_t num_columns) {
  if (rule.top_keys >= 1) return num_columns;
  const auto tiles = static_cast<double>(num_columns) / static_cast<double>(rule.multiple);
  return std::min<std::int64_t>(std::llround(rule.top_keys * tiles) * rule.multiple, num_columns);
}

std::int64_t num_words(std::int64_t num_columns) {
  return (num_columns + ColumnBits::kWordBits - 1) / ColumnBits::kWordBits;
}

Tensor upload_ints(Backend& backend, const void* values, const Shape& shape) {
  const Tensor host(DType::kI32, shape);
  std::memcpy(host.view().bytes(), values, host.view().size_bytes());
  Tensor tensor(DType::kI32, shape, backend.allocator());
  backend.run(ops::Upload{.host = host, .target = tensor});
  return tensor;
}

}  // namespace

ColumnRule::ColumnRule(const AttentionSparsity& attn)
    : top_keys(attn.top_keys),
      top_p(attn.top_p),
      min_keys(attn.min_keys),
      max_keys(attn.max_keys),
      random_keys(attn.random_keys),
      multiple(attn.counts_multiple_of),
      group_size(attn.group_size) {}

ColumnRule::ColumnRule(const MlpSparsity& mlp)
    : top_keys(mlp.top_keys),
      random_keys(mlp.random_keys),
      multiple(mlp.counts_multiple_of),
      group_size(mlp.block_size) {}

std::uint64_t plan_seed(std::uint64_t seed, PlanKind kind, Site site) {
  const PhiloxWords words =
      philox_4x32_10({static_cast<std::uint32_t>(site.layer),
                      static_cast<std::uint32_t>(site.branch), static_cast<std::uint32_t>(kind), 0},
                     seed);
  return std::uint64_t{words[0]} << 32 | words[1];
}

Tensor upload_bits(Backend& backend, const ColumnBits& bits) {
  return upload_ints(backend, bits.words().data(), {bits.num_groups(), bits.num_words()});
}

ColumnPlan::ColumnPlan(Backend& backend, const ColumnRule& rule, const Shape& scores,
                       const TensorView& home)
    : bits_(home),
      offsets_(DType::kI32, {scores[0] * scores[1] + 1}, backend.allocator()),
      num_columns_(scores[2]),
      group_size_(rule.group_size) {
  if (home) return;
  own_bits_ =
      Tensor(DType::kI32, {scores[0], scores[1], num_words(num_columns_)}, backend.allocator());
  bits_ = own_bits_;
}

void ColumnPlan::restore(Backend& backend, const TensorView& bits) {
  if (bits.dtype() != DType::kI32 || bits.shape() != bits_.shape()) {
    fail("wanted I32 {}, found {} {}", bits_.shape().to_string(), dtype_name(bits.dtype()),
         bits.shape().to_string());
  }
  const std::int64_t words_per_list = bits.dim(2);
  const auto* word = reinterpret_cast<const std::uint32_t*>(bits.bytes());
  const std::int64_t num_left = num_columns_ % ColumnBits::kWordBits;
  const std::uint32_t unused = num_left == 0 ? 0 : ~std::uint32_t{0} << num_left;
  std::vector<std::int32_t> offsets{0};
  for (std::int64_t list = 0; list < bits.dim(0) * bits.dim(1); ++list, word += words_per_list) {
    std::int32_t count = 0;
    for (std::int64_t i = 0; i < words_per_list; ++i) count += std::popcount(word[i]);
    if (count == 0 || (word[words_per_list - 1] & unused) != 0) {
      fail("wanted one or more of {} columns in each list", num_columns_);
    }
    offsets.push_back(offsets.back() + count);
  }
  if (own_bits_) backend.run(ops::Upload{.host = bits, .target = bits_});
  backend.run(ops::Upload{.host = TensorView(offsets.data(), DType::kI32, {std::ssize(offsets)}),
                          .target = offsets_});
}

void ColumnPlan::choose(Context& ctx, const ColumnRule& rule, const TensorView& fixed,
                        const TensorView& scores, std::uint64_t seed, const TensorView& step) {
  ops::SelectColumns choice{.scores = scores,
                            .fixed = fixed,
                            .num_keys = num_columns_,
                            .random = rule.random_keys,
                            .seed = seed,
                            .step = step,
                            .multiple = rule.multiple,
                            .plan = bits_,
                            .offsets = offsets_};
  choice.min_kept = choice.max_kept = num_top_keys(rule, num_columns_);
  if (rule.top_p > 0) {
    choice.mass = rule.top_p;
    choice.min_kept = fraction_of(rule.min_keys, num_columns_);
    choice.max_kept = fraction_of(rule.max_keys, num_columns_);
  }
  ctx.run(choice);
}

ColumnLists ColumnPlan::lists(Context& ctx) const {
  // Only the device knows the lengths of the lists, so there is room for all columns.
  const ColumnLists lists{offsets_, ctx.scratch.allocate(DType::kI32, {max_total()}), group_size_};
  ctx.run(ops::ExpandColumns{.plan = bits_, .lists = lists});
  return lists;
}

std::int64_t ColumnPlan::total(Backend& backend) const {
  const std::int64_t num_lists = offsets_.view().dim(0) - 1;
  std::int32_t total = 0;
  backend.run(ops::Download{.source = offsets_.view().rows(num_lists, num_lists + 1),
                            .host = TensorView(&total, DType::kI32, {1})});
  return total;
}

double ColumnPlan::kept_fraction(Backend& backend) const {
  return static_cast<double>(total(backend)) / static_cast<double>(max_total());
}

}  // namespace mochi
