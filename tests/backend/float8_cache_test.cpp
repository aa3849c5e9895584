// Deltas whose cache is F8_E4M3 with a scale for each query and head.
#include <gtest/gtest.h>

#include "backend/sparse_ops_fixture.h"
#include "base/error.h"
#include "base/temp_folder.h"
#include "tensor/float8.h"

namespace mochi {
namespace {

constexpr std::int64_t kHeads = 3;

class Float8CacheFixture : public SparseOpsFixture {
 protected:
  static std::uint8_t* codes(const Tensor& tensor) {
    return reinterpret_cast<std::uint8_t*>(tensor.view().bytes());
  }
  // Returns codes that are all NaN.
  static Tensor poisoned_codes(const Shape& shape) {
    Tensor tensor(DType::kF8E4M3, shape);
    std::memset(tensor.view().bytes(), 0xff, tensor.view().size_bytes());
    return tensor;
  }
  // Returns the index of the scale that belongs to an element of the cache.
  static std::size_t row_of(std::size_t i, std::int64_t tokens, std::int64_t head_dim) {
    const std::size_t query = i / static_cast<std::size_t>(kHeads * head_dim);
    const std::size_t head =
        i % static_cast<std::size_t>(kHeads * head_dim) / static_cast<std::size_t>(head_dim);
    return head * static_cast<std::size_t>(tokens) + query;
  }
};

using Float8Cache = OverBackends<Float8CacheFixture>;
INSTANTIATE_TEST_SUITE_P(On, Float8Cache, all_backends(), name_of_case);

// Without a weight the cache is a difference of two inputs and known to the last bit. Covers rows
// of one, of a few and of many vectors, and rows that are not vectors.
TEST_P(Float8Cache, IsRoundedByItsLargestValue) {
  constexpr std::int64_t kTokens = 37;
  for (const std::int64_t head_dim : {8, 20, 7, 64, 128, 136, 300}) {
    const Shape shape{kTokens, kHeads * head_dim};
    const Tensor dense = random(shape);
    const Tensor sparse = random(shape);
    // One row has a delta of zero, and another one is small throughout.
    std::copy_n(dense.view().f32().begin() + 5 * head_dim, head_dim,
                sparse.view().f32().begin() + 5 * head_dim);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      dense.view().f32()[9 * head_dim + d] *= 0x1p-60F;
      sparse.view().f32()[9 * head_dim + d] *= 0x1p-60F;
    }
    const Tensor cache = poisoned_codes(shape);
    const Tensor scale = poisoned({kHeads, kTokens});
    backend_->run(ops::FindDelta{.dense = {dense},
                                 .sparse = {sparse},
                                 .delta = {.cache = cache, .weight = {}, .cache_scale = scale}});
    std::vector<float> exact(dense.view().f32().size());
    std::vector<float> highest(static_cast<std::size_t>(kHeads * kTokens));
    for (std::size_t i = 0; i < exact.size(); ++i) {
      exact[i] = dense.view().f32()[i] - sparse.view().f32()[i];
      float& of_row = highest[row_of(i, kTokens, head_dim)];
      of_row = std::max(of_row, std::abs(exact[i]));
    }
    std::size_t num_wrong = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const std::size_t row = row_of(i, kTokens, head_dim);
      const float wanted_scale = highest[row] / kMaxF8E4M3;
      ASSERT_EQ(scale.view().f32()[row], wanted_scale) << head_dim;
      const std::uint8_t wanted =
          wanted_scale == 0.0F ? std::uint8_t{0} : f32_to_f8_e4m3(exact[i] / wanted_scale);
      num_wrong += codes(cache)[i] == wanted ? 0 : 1;
    }
    EXPECT_EQ(num_wrong, 0U) << head_dim;
    EXPECT_EQ(scale.view().f32()[row_of(static_cast<std::size_t>(5 * head_dim), kTokens, head_dim)],
              0.0F);
  }
}

// Compared with a cache that is not rounded to 8 bits: the weight is equal, and values are within
// half a step.
TEST_P(Float8Cache, IsNearTheUnroundedOneInEveryForm) {
  for (const Sizes& sizes : {Sizes{200, 64, 64}, {333, 128, 192}, {65, 40, 64}}) {
    const Shape shape{sizes.tokens, kHeads * sizes.head_dim};
    const Shape rows{kHeads, sizes.tokens};
    const Tensor dense = random(shape);
    const Tensor sparse = random(shape);
    const Tensor dense_lse = random_f32(rows);
    const Tensor sparse_lse = random_f32(rows);
    for (float& lse : sparse_lse.view().f32()) lse -= 3.0F;
    for (const DeltaForm& form : kDeltaForms) {
      const Tensor wanted = poisoned(shape);
      const Tensor wanted_weight = poisoned(rows);
      backend_->run(ops::FindDelta{.dense = {dense, dense_lse},
                                   .sparse = {sparse, sparse_lse},
                                   .delta = form.with(wanted, wanted_weight)});
      const Tensor cache = poisoned_codes(shape);
      const Tensor scale = poisoned(rows);
      const Tensor weight = poisoned(rows);
      AttentionDelta delta = form.with(cache, weight);
      delta.cache_scale = scale;
      backend_->run(ops::FindDelta{
          .dense = {dense, dense_lse}, .sparse = {sparse, sparse_lse}, .delta = delta});
      if (form.has_weight) {
        EXPECT_LE(error(weight, wanted_weight.view()), 1e-6);
      }
      const Tensor found(DType::kF32, shape);
      for (std::size_t i = 0; i < found.view().f32().size(); ++i) {
        found.view().f32()[i] = scale.view().f32()[row_of(i, sizes.tokens, sizes.head_dim)] *
                                f8_e4m3_to_f32(codes(cache)[i]);
      }
      // Values with 3 bits after the first one have an error of 2.65 % if all mantissas are equally
      // frequent.
      const double difference = error(found, wanted.view());
      EXPECT_LE(difference, 0.028) << sizes.head_dim << form.has_weight << form.is_merged;
      EXPECT_GE(difference, 0.02) << sizes.head_dim << form.has_weight << form.is_merged;
    }
  }
}

// If the scales are powers of two, a cache of activations can hold the same values.
TEST_P(Float8Cache, IsAppliedAsTheSameValuesInActivations) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(kHeads, sizes.tokens, sizes.head_dim);
    const Lists lists =
        sizes.tokens < 2 ? all_columns(p, sizes.group_size) : some_columns(p, sizes.group_size);
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor cache(DType::kF8E4M3, p.out_shape());
    const Tensor scale(DType::kF32, p.lse_shape());
    const Tensor values(DType::kF32, p.out_shape());
    for (float& factor : scale.view().f32()) {
      factor = std::ldexp(1.0F, static_cast<int>(generator_() % 5) - 9);
    }
    for (std::size_t i = 0; i < values.view().f32().size(); ++i) {
      const auto code = static_cast<std::uint8_t>(generator_() % 256);
      codes(cache)[i] = (code & 0x7fU) == 0x7fU ? std::uint8_t{0x80} : code;
      values.view().f32()[i] = scale.view().f32()[row_of(i, sizes.tokens, sizes.head_dim)] *
                               f8_e4m3_to_f32(codes(cache)[i]);
    }
    const Tensor weight = random_f32(p.lse_shape());
    const std::vector<double> wanted_lse = attend(p, lists, sizes.group_size).lse;
    for (const DeltaForm& form : kDeltaForms) {
      const Tensor wanted = poisoned(p.out_shape());
      backend_->run(ops::ColumnSparseAttention{
          .in = p.in, .columns = columns.view, .delta = form.with(values, weight), .to = {wanted}});
      AttentionDelta delta = form.with(cache, weight);
      delta.cache_scale = scale;
      const Tensor out = poisoned(p.out_shape());
      const Tensor lse = poisoned(p.lse_shape());
      backend_->run(ops::ColumnSparseAttention{
          .in = p.in, .columns = columns.view, .delta = delta, .to = {out, lse}});
      EXPECT_LE(error(out, wanted.view()), limit(1e-6))
          << sizes.tokens << form.has_weight << form.is_merged << form.follow;
      EXPECT_LE(error(lse, wanted_lse), limit(1e-6)) << sizes.tokens;
    }
  }
}

TEST_P(Float8Cache, ContractsNameTheOperation) {
  const Problem p = make_problem(2, 64, 16);
  const Tensor out = poisoned(p.out_shape());
  const Tensor other = poisoned(p.out_shape());
  const Tensor scale = poisoned(p.lse_shape());
  const Tensor cache = poisoned_codes(p.out_shape());
  const DeviceLists columns = upload(all_columns(p, 64), 64);
  const auto message = [](const auto& call) { return message_of<Error>(call); };
  const auto apply = [&](const TensorView& of_delta, const TensorView& scales) {
    return message([&] {
      backend_->run(ops::ColumnSparseAttention{
          .in = p.in,
          .columns = columns.view,
          .delta = {.cache = of_delta, .weight = {}, .cache_scale = scales},
          .to = {out}});
    });
  };
  EXPECT_EQ(apply(cache, {}), "column_sparse_attention: cache_scale is missing");
  EXPECT_EQ(apply(cache, out), "column_sparse_attention: cache_scale is [64, 32], wanted [2, 64]");
  EXPECT_EQ(apply(other, scale), "column_sparse_attention: a cache of activations has a scale");
  EXPECT_EQ(message([&] {
              backend_->run(ops::FindDelta{
                  .dense = {other},
                  .sparse = {out},
                  .delta = {.cache = cache, .weight = {}, .cache_scale = poisoned({3, 64})}});
            }),
            "find_delta: cache_scale is [3, 64], dense is [64, 32]");
}

}  // namespace
}  // namespace mochi
