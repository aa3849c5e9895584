#include "sparsity/column_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace mochi {
namespace {

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

}  // namespace mochi
