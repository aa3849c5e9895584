// Attention over columns of a matrix compared with attention over copies of them. The elements
// between the columns are NaN.
#include <gtest/gtest.h>

#include "backend/sparse_ops_fixture.h"
#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

struct InPlaceCase {
  std::int64_t heads, queries, keys, head_dim;
  bool has_bias = false;
  // Given as columns, as v always is, instead of a separate tensor.
  bool has_q = true, has_k = true;
  std::int64_t gap = 8;  // columns before, between and after the three
};

class InPlaceFixture : public SparseOpsFixture {
 protected:
  // Returns a matrix [rows, 3·width] with gaps.
  Tensor make_matrix(const InPlaceCase& c, std::int64_t rows) {
    const std::int64_t row = 3 * width(c) + 4 * c.gap;
    Tensor matrix = random({rows, row});
    for (std::int64_t i = 0; i < matrix.view().num_elements(); ++i) {
      if (i % row % (width(c) + c.gap) < c.gap) matrix.view().f32()[i] = std::nanf("");
    }
    return matrix;
  }
  static std::int64_t width(const InPlaceCase& c) { return c.heads * c.head_dim; }
  // Returns the columns of q, k or v (idx 0, 1, 2).
  static HeadsView columns_of(const InPlaceCase& c, const Tensor& matrix, int idx) {
    return {matrix, c.heads, c.head_dim, c.gap + idx * (width(c) + c.gap)};
  }
  static Tensor copy_of(const HeadsView& heads) {
    Tensor copy(DType::kF32, heads.shape);
    const std::span<const float> source = heads.tensor.f32();
    float* target = copy.view().f32().data();
    for (std::int64_t head = 0; head < heads.dim(0); ++head) {
      for (std::int64_t token = 0; token < heads.dim(1); ++token) {
        const std::int64_t at = token * heads.tensor.dim(1) + heads.first + head * heads.dim(2);
        target = std::copy_n(source.data() + at, heads.dim(2), target);
      }
    }
    return copy;
  }

  // Equal values, in place and as copies.
  struct Twice {
    Tensor of_queries, of_keys, q, k, v, bias;
    AttentionInputs in_place, of_copies;
  };
  Twice make_twice(const InPlaceCase& c) {
    Twice twice;
    // One matrix if possible, as a fused projection writes it.
    twice.of_keys = make_matrix(c, c.keys);
    if (c.queries != c.keys) twice.of_queries = make_matrix(c, c.queries);
    const HeadsView q = columns_of(c, twice.of_queries ? twice.of_queries : twice.of_keys, 0);
    const HeadsView k = columns_of(c, twice.of_keys, 1);
    const HeadsView v = columns_of(c, twice.of_keys, 2);
    twice.q = copy_of(q);
    twice.k = copy_of(k);
    twice.v = copy_of(v);
    if (c.has_bias) twice.bias = random({c.heads, c.queries, c.keys});
    const float scale = 2.0F / std::sqrt(static_cast<float>(c.head_dim));
    twice.of_copies = {twice.q, twice.k, twice.v, twice.bias, scale};
    twice.in_place = {q, k, v, twice.bias, scale};
    if (!c.has_q) twice.in_place.q = twice.q;
    if (!c.has_k) twice.in_place.k = twice.k;
    return twice;
  }

  struct Results {
    Tensor out, lse, sums;
  };
  static Results make_results(const AttentionInputs& in, std::int64_t group_size) {
    const std::int64_t num_groups = (in.q.dim(1) + group_size - 1) / group_size;
    return {poisoned({in.q.dim(1), in.q.dim(0) * in.q.dim(2)}),
            poisoned({in.q.dim(0), in.q.dim(1)}), poisoned({in.q.dim(0), num_groups, in.k.dim(1)})};
  }
  static Results attend(Backend& backend, const AttentionInputs& in) {
    Results results = make_results(in, 1);
    backend.run(ops::Attention{.in = in, .to = {results.out, results.lse}});
    return results;
  }
  static void expect_equal(const Tensor& got, const Tensor& want) {
    EXPECT_TRUE(std::ranges::equal(got.view().f32(), want.view().f32()));
  }
};

using AttentionInPlace = OverBackendsAnd<InPlaceFixture, InPlaceCase>;

TEST_P(AttentionInPlace, EqualsAttentionOverCopies) {
  const Twice twice = make_twice(param());
  const Results got = attend(*backend_, twice.in_place);
  const Results copied = attend(*backend_, twice.of_copies);
  const Results want = attend(*make_backend(Device::cpu()), twice.of_copies);
  EXPECT_LE(error(got.out, want.out), limit(1e-6));
  EXPECT_LE(error(got.lse, want.lse), limit(1e-6));
  // Rows at odd addresses may need another kernel.
  if (param().gap % 8 != 0) return;
  expect_equal(got.out, copied.out);
  expect_equal(got.lse, copied.lse);
}

constexpr InPlaceCase kInPlaceCases[] = {
    {.heads = 1, .queries = 1, .keys = 1, .head_dim = 128},
    {.heads = 3, .queries = 385, .keys = 385, .head_dim = 128},
    {.heads = 2, .queries = 131, .keys = 262, .head_dim = 128},
    {.heads = 2, .queries = 200, .keys = 129, .head_dim = 128, .has_q = false},
    {.heads = 2, .queries = 257, .keys = 257, .head_dim = 128, .has_q = false, .has_k = false},
    {.heads = 2, .queries = 256, .keys = 256, .head_dim = 128, .gap = 0},
    {.heads = 2, .queries = 100, .keys = 100, .head_dim = 128, .gap = 3},
    {.heads = 3, .queries = 77, .keys = 77, .head_dim = 64, .has_bias = true},
    {.heads = 2, .queries = 33, .keys = 130, .head_dim = 64, .has_bias = true, .has_k = false},
    {.heads = 2, .queries = 257, .keys = 300, .head_dim = 64},
    {.heads = 2, .queries = 70, .keys = 40, .head_dim = 64, .gap = 1},
    {.heads = 3, .queries = 65, .keys = 66, .head_dim = 20, .gap = 8},
    {.heads = 2, .queries = 1, .keys = 257, .head_dim = 512},
};
INSTANTIATE_TEST_SUITE_P(On, AttentionInPlace,
                         testing::Combine(all_backends(), testing::ValuesIn(kInPlaceCases)),
                         name_of_combined<InPlaceCase>);

using AttentionInPlaceOp = OverBackends<InPlaceFixture>;
INSTANTIATE_TEST_SUITE_P(On, AttentionInPlaceOp, all_backends(), name_of_case);

TEST_P(AttentionInPlaceOp, ColumnSumsEqualThoseOfCopies) {
  for (const std::int64_t head_dim : {20, 64, 128}) {
    for (const std::int64_t group_size : {64, 128, 192}) {
      const Twice twice =
          make_twice({.heads = 2, .queries = 300, .keys = 300, .head_dim = head_dim});
      const Tensor former = attend(*backend_, twice.of_copies).lse;
      const auto run = [&](const AttentionInputs& in) {
        Results results = make_results(in, group_size);
        backend_->run(ops::AttentionWithColumnSums{.in = in,
                                                   .scores_lse = former,
                                                   .sums = results.sums,
                                                   .group_size = group_size,
                                                   .query_stride = 4,
                                                   .to = {results.out, results.lse}});
        return results;
      };
      const Results got = run(twice.in_place);
      const Results want = run(twice.of_copies);
      expect_equal(got.out, want.out);
      expect_equal(got.lse, want.lse);
      expect_equal(got.sums, want.sums);
    }
  }
}

TEST_P(AttentionInPlaceOp, ContractsNameTheColumnsAndTheMatrix) {
  const Tensor matrix = random({7, 3 * 16});
  const Tensor out = poisoned({7, 16});
  const HeadsView good(matrix, 2, 8, 16);
  const auto message = [&](const HeadsView& q, const HeadsView& k, const HeadsView& v) {
    return message_of<Error>(
        [&] { backend_->run(ops::Attention{.in = {q, k, v, {}, 1.0F}, .to = {out}}); });
  };
  EXPECT_EQ(message({matrix, 2, 8, 40}, good, good),
            "attention: q is 16 columns from 40 on of [7, 48]");
  EXPECT_EQ(message(good, {matrix, 2, 8, -8}, good),
            "attention: k is 16 columns from -8 on of [7, 48]");
  EXPECT_EQ(message(good, good, {matrix, 2, 25, 0}),
            "attention: v is 50 columns from 0 on of [7, 48]");
  EXPECT_EQ(message({matrix, 2, 8, 49}, good, good),
            "attention: q is 16 columns from 49 on of [7, 48]");
  EXPECT_EQ(message(good, {matrix, 3, 8, 0}, good), "attention: k is [3, 7, 8], wanted [2, 7, 8]");
  EXPECT_EQ(message(good, good, {matrix.view().rows(0, 6), 2, 8, 0}),
            "attention: v is [2, 6, 8], wanted [2, 7, 8]");
  EXPECT_EQ(message({random({7, 3, 16}), 2, 8, 0}, good, good),
            "attention: q is [7, 3, 16], wanted rank 2");
  EXPECT_EQ(message(matrix, good, good), "attention: q is [7, 48], wanted rank 3");
  EXPECT_EQ(message({}, good, good), "attention: q is missing");
  const DeviceLists lists = upload(Lists(2, {0}), 7);
  EXPECT_EQ(message_of<Error>([&] {
              backend_->run(ops::ColumnSparseAttention{
                  .in = {good, good, good, {}, 1.0F}, .columns = lists.view, .to = {out}});
            }),
            "column_sparse_attention: q, k and v must be separate tensors");
}

}  // namespace
}  // namespace mochi
