// Queries and keys of the transformer against literal loops in double.
#include <cmath>

#include "backend/ops_fixture.h"

namespace mochi {
namespace {

constexpr float kEps = 1e-3F;
constexpr std::int64_t kTokens = 5;
constexpr std::int64_t kNumHeads = 3;
constexpr std::int64_t kTotal = 9;
constexpr std::int64_t kOffset = 2;

enum Part { kQ, kK, kV };

struct Rope {
  std::int64_t head_dim;
  bool has_table;
};

class QkNormRopeBase : public OpsFixture {
 protected:
  // `to` [head_dim] = what `in` [head_dim] of a token and head becomes.
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

  // `out` [kNumHeads, kTotal, head_dim] with the tokens of one part put in.
  static std::vector<double> expected(const TensorView& qkv, const QkNormRope& params, Part part,
                                      const TensorView& before) {
    const std::int64_t d = params.q_weight.dim(0);
    std::vector<double> out(before.f32().begin(), before.f32().end());
    for (std::int64_t token = 0; token < kTokens; ++token) {
      for (std::int64_t head = 0; head < kNumHeads; ++head) {
        const float* in = qkv.f32().data() + ((token * 3 + part) * kNumHeads + head) * d;
        double* to = out.data() + (head * kTotal + kOffset + token) * d;
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
};

using QkNormRopeOp = OverBackendsAnd<QkNormRopeBase, Rope>;

TEST_P(QkNormRopeOp, WritesItsRowsAndNoOthers) {
  const auto [d, has_table] = param();
  const Tensor qkv = random({kTokens, 3 * kNumHeads * d});
  const Tensor q_weight = random({d});
  const Tensor k_weight = random({d});
  const Tensor cos = random({kTokens, kNumHeads, d / 2});
  const Tensor sin = random({kTokens, kNumHeads, d / 2});
  QkNormRope params{q_weight, k_weight, {}, {}, kEps};
  if (has_table) {
    params.cos = cos;
    params.sin = sin;
  }
  std::vector<Tensor> out;
  std::vector<std::vector<double>> want;
  for (const Part part : {kQ, kK, kV}) {
    want.push_back(expected(qkv, params, part, out.emplace_back(random({kNumHeads, kTotal, d}))));
  }
  backend_->qk_norm_rope(qkv, params, kOffset, out[kQ], out[kK], out[kV]);
  for (const Part part : {kQ, kK, kV}) {
    EXPECT_LE(relative_error(out[part].view().f32(), want[part]), limit(1e-6)) << part;
  }
}

INSTANTIATE_TEST_SUITE_P(On, QkNormRopeOp,
                         testing::Combine(all_backends(),
                                          testing::Values(Rope{6, true}, Rope{24, false},
                                                          Rope{24, true}, Rope{128, true})),
                         name_of_combined<Rope>);

}  // namespace
}  // namespace mochi
