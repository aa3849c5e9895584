// Convolutions compared with literal loops in double.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/onednn.h"
#include "base/error.h"
#include "tensor/float_arrays.h"
#include "vae_ops_fixture.h"

namespace mochi {
namespace {

Tensor to_bf16(const TensorView& source) {
  Tensor result(DType::kBF16, source.shape());
  auto* bits = reinterpret_cast<std::uint16_t*>(result.view().bytes());
  for (const float value : source.f32()) *bits++ = f32_to_bf16(value);
  return result;
}

struct ConvCase {
  Shape x;  // including its halo
  std::int64_t out_channels;
  std::array<int, 3> kernel;
  std::array<int, 3> stride;
  bool has_bias = true;
  bool has_residual = false;
};

Shape conv_out_shape(const ConvCase& param) {
  std::array<std::int64_t, 3> size{};
  for (int axis = 0; axis < 3; ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    size[i] = (param.x[axis] - param.kernel[i]) / param.stride[i] + 1;
  }
  return {size[0], size[1], size[2], param.out_channels};
}

struct ConvParams {
  TensorView weight, bias, residual;
  std::array<int, 3> stride{1, 1, 1};
};

std::vector<double> slow_conv(const TensorView& x, const ConvParams& params, const Shape& out) {
  std::vector<double> result;
  const Shape& kernel = params.weight.shape();
  const std::span<const float> weight = params.weight.f32();
  const float* values = x.f32().data();
  const std::int64_t height = x.dim(1);
  const std::int64_t width = x.dim(2);
  const std::int64_t channels = x.dim(3);
  for (std::int64_t t = 0; t < out[0]; ++t) {
    for (std::int64_t h = 0; h < out[1]; ++h) {
      for (std::int64_t w = 0; w < out[2]; ++w) {
        for (std::int64_t co = 0; co < out[3]; ++co) {
          double sum = params.bias ? params.bias.f32()[co] : 0.0;
          std::size_t i = static_cast<std::size_t>(co * (params.weight.num_elements() / kernel[0]));
          for (std::int64_t ci = 0; ci < kernel[1]; ++ci) {
            for (std::int64_t dt = 0; dt < kernel[2]; ++dt) {
              for (std::int64_t dh = 0; dh < kernel[3]; ++dh) {
                for (std::int64_t dw = 0; dw < kernel[4]; ++dw) {
                  const std::int64_t row =
                      (t * params.stride[0] + dt) * height + h * params.stride[1] + dh;
                  const std::int64_t pixel = row * width + w * params.stride[2] + dw;
                  sum += double{weight[i++]} * values[pixel * channels + ci];
                }
              }
            }
          }
          if (params.residual) sum += params.residual.f32()[result.size()];
          result.push_back(sum);
        }
      }
    }
  }
  return result;
}

class VaeOpsConv : public OverBackendsAnd<VaeOpsFixture, ConvCase> {
 protected:
  void SetUp() override {
    OverBackendsAnd::SetUp();
    const ConvCase& param = this->param();
    x_ = random_tensor(param.x, 1);
    weight_ = random_tensor(
        {param.out_channels, param.x[3], param.kernel[0], param.kernel[1], param.kernel[2]}, 2);
    bias_ = random_tensor({param.out_channels}, 3);
    residual_ = random_tensor(conv_out_shape(param), 4);
    out_ = random_tensor(conv_out_shape(param), 5);
    params_.weight = weight_;
    if (param.has_bias) params_.bias = bias_;
    if (param.has_residual) params_.residual = residual_;
    params_.stride = param.stride;
  }

  Tensor x_, weight_, bias_, residual_, out_;
  void run(const Tensor& out) {
    backend_->run(ops::Conv3d{.x = x_,
                              .weight = params_.weight,
                              .bias = params_.bias,
                              .residual = params_.residual,
                              .stride = params_.stride,
                              .out = out});
  }

  ConvParams params_;
};

// The largest case adds up 3,456 products in F32; the CPU's Winograd has an error of 1.07e-6.
constexpr double kF32Limit = 1.5e-6;

TEST_P(VaeOpsConv, MatchesLoops) {
  const std::vector<double> want = slow_conv(x_, params_, out_.view().shape());
  EXPECT_TRUE(is_repeatable(out_, [&] { run(out_); }));
  EXPECT_LE(relative_error(out_.view().f32(), want), limit(kF32Limit));
}

TEST_P(VaeOpsConv, AddsInPlace) {
  params_.residual = residual_;
  const std::vector<double> want = slow_conv(x_, params_, out_.view().shape());
  run(residual_);
  EXPECT_LE(relative_error(residual_.view().f32(), want), limit(kF32Limit));
}

TEST_P(VaeOpsConv, TakesBf16Weights) {
  const Tensor rounded = to_bf16(weight_);
  for (float& value : weight_.view().f32()) value = bf16_to_f32(f32_to_bf16(value));
  const std::vector<double> want = slow_conv(x_, params_, out_.view().shape());
  params_.weight = rounded;
  run(out_);
  // If the processor has bf16 tiles, x is rounded as well, by at most 2^-9 per factor. Matmuls,
  // which 1×1×1 convolutions are, also round it with bf16 dot products.
  const bool is_product = weight_.view().num_elements() == x_.view().dim(3) * out_.view().dim(3);
  const bool rounds_x = is_cpu() && (is_product ? cpu::has_bf16() : cpu::prefers_bf16());
  EXPECT_LE(relative_error(out_.view().f32(), want), limit(rounds_x ? 4e-3 : kF32Limit));
}

INSTANTIATE_TEST_SUITE_P(
    On, VaeOpsConv,
    testing::Combine(
        all_backends(),
        testing::Values(ConvCase{{3, 5, 6, 12}, 12, {3, 3, 3}, {1, 1, 1}},
                        ConvCase{{4, 7, 9, 32}, 32, {3, 3, 3}, {1, 1, 1}, true, true},
                        ConvCase{{3, 4, 11, 48}, 48, {3, 3, 3}, {1, 1, 1}, false, true},
                        ConvCase{{3, 5, 5, 96}, 64, {3, 3, 3}, {1, 1, 1}},
                        ConvCase{{3, 6, 6, 32}, 3, {3, 3, 3}, {1, 1, 1}},
                        ConvCase{{4, 6, 20, 128}, 72, {3, 3, 3}, {1, 1, 1}, true, true},
                        ConvCase{{3, 10, 6, 64}, 160, {3, 3, 3}, {1, 1, 1}},
                        ConvCase{{3, 3, 3, 8}, 8, {3, 3, 3}, {1, 1, 1}, true, true},
                        ConvCase{{5, 8, 20, 72}, 136, {3, 3, 3}, {1, 1, 1}, true, true},
                        ConvCase{{2, 14, 26, 64}, 128, {2, 3, 5}, {1, 1, 1}, true, true},
                        ConvCase{{1, 1, 700, 64}, 32, {1, 1, 1}, {1, 1, 1}},
                        ConvCase{{2, 6, 10, 8}, 12, {1, 2, 2}, {1, 2, 2}},
                        ConvCase{{4, 6, 4, 12}, 16, {2, 2, 2}, {2, 2, 2}},
                        ConvCase{{7, 4, 6, 64}, 24, {3, 2, 2}, {3, 2, 2}, false},
                        ConvCase{{2, 3, 3, 12}, 24, {1, 1, 1}, {1, 1, 1}})),
    name_of_combined<ConvCase>);

TEST_P(VaeOps, ConvRefusesMismatches) {
  const Tensor x(DType::kF32, {3, 5, 5, 8});
  const Tensor out(DType::kF32, {1, 3, 3, 4});
  const Tensor wrong_input(DType::kF32, {4, 7, 3, 3, 3});
  const Tensor too_large(DType::kF32, {4, 8, 4, 3, 3});
  EXPECT_THROW(backend_->run(ops::Conv3d{.x = x, .weight = wrong_input, .out = out}), Error);
  EXPECT_THROW(backend_->run(ops::Conv3d{.x = x, .weight = too_large, .out = out}), Error);
}

}  // namespace
}  // namespace mochi
