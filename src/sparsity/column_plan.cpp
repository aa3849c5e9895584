#include "sparsity/column_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/philox.h"

namespace mochi {
namespace {

std::int64_t fraction_of(double fraction, std::int64_t num_columns) {
  return std::clamp<std::int64_t>(std::llround(fraction * static_cast<double>(num_columns)), 0,
                                  num_columns);
}

// The columns of highest score: a multiple of the tile, or all.
std::int64_t num_top_keys(const ColumnRule& rule, std::int64_t num_columns) {
  if (rule.top_keys >= 1) return num_columns;
  const auto tiles = static_cast<double>(num_columns) / static_cast<double>(rule.multiple);
  return std::min<std::int64_t>(std::llround(rule.top_keys * tiles) * rule.multiple, num_columns);
}

Tensor upload_ints(Backend& backend, const void* values, const Shape& shape) {
  const Tensor host(DType::kI32, shape);
  std::memcpy(host.view().bytes(), values, host.view().size_bytes());
  Tensor tensor(DType::kI32, shape, backend.allocator());
  backend.upload(host, tensor);
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
      group_size(attn.mbm),
      is_packed(attn.should_compress_indices) {}

ColumnRule::ColumnRule(const MlpSparsity& mlp)
    : top_keys(mlp.top_keys),
      random_keys(mlp.random_keys),
      multiple(mlp.counts_multiple_of),
      group_size(mlp.mbm) {}

std::uint64_t plan_seed(std::uint64_t seed, PlanKind kind, AttentionSite site, int step) {
  const PhiloxWords words =
      philox_4x32_10({static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(site.layer),
                      static_cast<std::uint32_t>(site.branch), static_cast<std::uint32_t>(kind)},
                     seed);
  return std::uint64_t{words[0]} << 32 | words[1];
}

Tensor upload_bits(Backend& backend, const ColumnBits& bits) {
  return upload_ints(backend, bits.words().data(), {bits.num_groups(), bits.num_words()});
}

ColumnPlan::ColumnPlan(Context& ctx, const ColumnRule& rule, const TensorView& fixed,
                       const TensorView& scores, std::uint64_t seed, const TensorView& home)
    : bits_(home), num_columns_(scores.dim(2)), group_size_(rule.group_size) {
  Backend& backend = ctx.backend;
  const std::int64_t num_heads = scores.dim(0);
  const std::int64_t num_groups = fixed.dim(0);
  ColumnChoice choice{.scores = scores,
                      .fixed = fixed,
                      .num_keys = num_columns_,
                      .random = rule.random_keys,
                      .seed = seed,
                      .multiple = rule.multiple};
  choice.min_kept = choice.max_kept = num_top_keys(rule, num_columns_);
  if (rule.top_p > 0) {
    choice.mass = rule.top_p;
    choice.min_kept = fraction_of(rule.min_keys, num_columns_);
    choice.max_kept = fraction_of(rule.max_keys, num_columns_);
  }
  if (!home) {
    own_bits_ = Tensor(DType::kI32, {num_heads, num_groups, fixed.dim(1)}, backend.allocator());
    bits_ = own_bits_;
  }
  const Arena::Scope scope(ctx.scratch);
  const TensorView counts = ctx.scratch.allocate(DType::kI32, {num_heads, num_groups});
  backend.select_columns(choice, bits_, counts);

  const Tensor host_counts(DType::kI32, counts.shape());
  backend.download(counts, host_counts);
  const auto* count = reinterpret_cast<const std::int32_t*>(host_counts.view().bytes());
  index(backend, rule.is_packed || home, {count, count + counts.num_elements()});
}

ColumnPlan::ColumnPlan(Backend& backend, const ColumnRule& rule, std::int64_t num_tokens,
                       std::int64_t num_columns, const TensorView& bits, const TensorView& home)
    : bits_(home), num_columns_(num_columns), group_size_(rule.group_size) {
  constexpr std::int64_t kWordBits = ColumnBits::kWordBits;
  const std::int64_t num_groups = (num_tokens + group_size_ - 1) / group_size_;
  const std::int64_t num_words = (num_columns + kWordBits - 1) / kWordBits;
  if (bits.dtype() != DType::kI32 || bits.rank() != 3 || bits.dim(1) != num_groups ||
      bits.dim(2) != num_words) {
    fail("wanted I32 [heads, {}, {}], found {} {}", num_groups, num_words, dtype_name(bits.dtype()),
         bits.shape().to_string());
  }
  const auto* word = reinterpret_cast<const std::uint32_t*>(bits.bytes());
  const std::uint32_t unused =
      num_columns % kWordBits == 0 ? 0 : ~std::uint32_t{0} << (num_columns % kWordBits);
  std::vector<std::int32_t> counts;
  for (std::int64_t list = 0; list < bits.dim(0) * num_groups; ++list, word += num_words) {
    std::int32_t count = 0;
    for (std::int64_t i = 0; i < num_words; ++i) count += std::popcount(word[i]);
    if (count == 0 || (word[num_words - 1] & unused) != 0) {
      fail("wanted one or more of {} columns in each list", num_columns);
    }
    counts.push_back(count);
  }
  if (!home) {
    own_bits_ = Tensor(DType::kI32, bits.shape(), backend.allocator());
    bits_ = own_bits_;
    backend.upload(bits, bits_);
  }
  index(backend, rule.is_packed || home, counts);
}

void ColumnPlan::index(Backend& backend, bool is_packed, const std::vector<std::int32_t>& counts) {
  std::vector<std::int32_t> offsets{0};
  for (const std::int32_t count : counts) {
    total_ += count;
    if (total_ > std::numeric_limits<std::int32_t>::max()) fail("a plan of over 2^31 columns");
    offsets.push_back(static_cast<std::int32_t>(total_));
  }
  offsets_ = upload_ints(backend, offsets.data(), {std::ssize(offsets)});
  if (!is_packed) {
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
  const std::int64_t num_lists = bits_.dim(0) * bits_.dim(1);
  return static_cast<double>(total_) / static_cast<double>(num_lists * num_columns_);
}

}  // namespace mochi
