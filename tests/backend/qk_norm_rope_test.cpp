// Queries and keys of the transformer compared with literal loops in double.
#include <cmath>
#include <numeric>

#include "backend/ops_fixture.h"

namespace mochi {
namespace {

constexpr float kEps = 1e-3F;
constexpr std::int64_t kNumHeads = 3;
constexpr std::int64_t kOffset = 2;
constexpr std::int64_t kBehind = 2;  // tokens after those that are written

enum Part { kQ, kK, kV };

struct Rope {
  std::int64_t head_dim;
  bool has_table;
  std::int64_t tokens = 5;
  std::int64_t k = 0;  // depth of the matmul before, if there is one
};

class QkNormRopeBase : public OpsFixture {
 protected:
  // Sets `to` [head_dim] to the wanted result for `in` [head_dim] of a token and head.
  static void norm_and_rotate(const float* in, const TensorView& weight, const float* cos,
                              const float* sin, double* to) {
    const std::int64_t head_dim = weight.dim(0);
    double squares = 0.0;
    for (std::int64_t i = 0; i < head_dim; ++i) {
      squares += double{in[i]} * in[i] / static_cast<double>(head_dim);
    }
    for (std::int64_t i = 0; i < head_dim; ++i) {
      to[i] = in[i] / std::sqrt(squares + kEps) * weight.f32()[i];
    }
    if (cos == nullptr) return;
    for (std::int64_t i = 0; i < head_dim / 2; ++i) {
      const double even = to[2 * i];
      const double odd = to[2 * i + 1];
      to[2 * i] = even * cos[i] - odd * sin[i];
      to[2 * i + 1] = even * sin[i] + odd * cos[i];
    }
  }

  // Returns `out` [kNumHeads, total, head_dim] with the tokens of one part written.
  static std::vector<double> expected(const TensorView& qkv, const QkNorm& params, Part part,
                                      const TensorView& before) {
    const std::int64_t d = params.q_weight.dim(0);
    const std::int64_t total = before.dim(1);
    std::vector<double> out(before.f32().begin(), before.f32().end());
    for (std::int64_t token = 0; token < qkv.dim(0); ++token) {
      for (std::int64_t head = 0; head < kNumHeads; ++head) {
        const float* in = qkv.f32().data() + ((token * 3 + part) * kNumHeads + head) * d;
        double* to = out.data() + (head * total + kOffset + token) * d;
        const std::int64_t row = (token * kNumHeads + head) * d / 2;
        const bool has_table = static_cast<bool>(params.cos);
        if (part == kV) {
          std::copy(in, in + d, to);
        } else {
          norm_and_rotate(in, part == kQ ? params.q_weight : params.k_weight,
                          has_table ? params.cos.f32().data() + row : nullptr,
                          has_table ? params.sin.f32().data() + row : nullptr, to);
        }
      }
    }
    return out;
  }

  // Checks that `run` writes q, k and v of these tokens, whose matmul results are qkv.
  template <typename Run>
  void expect_written(const TensorView& qkv, const Rope& rope, double rounding, const Run& run) {
    const std::int64_t d = rope.head_dim;
    const Tensor q_weight = random({d});
    const Tensor k_weight = random({d});
    const Tensor cos = random({rope.tokens, kNumHeads, d / 2});
    const Tensor sin = random({rope.tokens, kNumHeads, d / 2});
    QkNorm params{q_weight, k_weight, {}, {}, kEps};
    if (rope.has_table) {
      params.cos = cos;
      params.sin = sin;
    }
    std::vector<Tensor> out;
    std::vector<std::vector<double>> want;
    for (const Part part : {kQ, kK, kV}) {
      out.push_back(random({kNumHeads, kOffset + rope.tokens + kBehind, d}));
      want.push_back(expected(qkv, params, part, out.back()));
    }
    run(params, out);
    for (const Part part : {kQ, kK, kV}) {
      EXPECT_LE(relative_error(out[part].view().f32(), want[part]), limit(1e-6, rounding)) << part;
    }
  }
};

using QkNormRopeOp = OverBackendsAnd<QkNormRopeBase, Rope>;

TEST_P(QkNormRopeOp, WritesItsRowsAndNoOthers) {
  const Tensor qkv = random({param().tokens, 3 * kNumHeads * param().head_dim});
  expect_written(qkv, param(), 1.0, [&](const QkNorm& params, const std::vector<Tensor>& out) {
    backend_->run(ops::QkNormRope{
        .qkv = qkv, .norm = params, .offset = kOffset, .q = out[kQ], .k = out[kK], .v = out[kV]});
  });
}

INSTANTIATE_TEST_SUITE_P(On, QkNormRopeOp,
                         testing::Combine(all_backends(),
                                          testing::Values(Rope{6, true}, Rope{24, false},
                                                          Rope{24, true}, Rope{128, true})),
                         name_of_combined<Rope>);

using QkvLinearOp = OverBackendsAnd<QkNormRopeBase, Rope>;

TEST_P(QkvLinearOp, WritesItsRowsAndNoOthers) {
  const auto [d, has_table, tokens, k] = param();
  const std::int64_t width = 3 * kNumHeads * d;
  const Tensor x = random({tokens, k});
  const Tensor weight = random({width, k});
  const Tensor qkv(DType::kF32, {tokens, width});
  for (std::int64_t i = 0; i < tokens * width; ++i) {
    const float* x_row = x.view().f32().data() + i / width * k;
    const float* w_row = weight.view().f32().data() + i % width * k;
    qkv.view().f32()[i] = static_cast<float>(std::inner_product(x_row, x_row + k, w_row, 0.0));
  }
  // If the matmul's result is rounded, too, there are two roundings.
  expect_written(qkv, param(), 1.5, [&](const QkNorm& params, const std::vector<Tensor>& out) {
    Arena scratch;
    backend_->run(ops::QkvLinear{.x = x,
                                 .weight = weight,
                                 .norm = params,
                                 .offset = kOffset,
                                 .scratch = scratch,
                                 .q = out[kQ],
                                 .k = out[kK],
                                 .v = out[kV]});
  });
}

// Covers a few tokens, a tile and a bit, two clusters and a bit; k with and without tails; other
// heads.
INSTANTIATE_TEST_SUITE_P(
    On, QkvLinearOp,
    testing::Combine(all_backends(),
                     testing::Values(Rope{128, true, 5, 64}, Rope{128, false, 5, 72},
                                     Rope{128, true, 130, 200}, Rope{128, true, 577, 520},
                                     Rope{128, true, 9, 36}, Rope{24, true, 40, 64})),
    name_of_combined<Rope>);

}  // namespace
}  // namespace mochi
