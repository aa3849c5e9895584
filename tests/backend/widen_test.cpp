// Matrices in the types that files store, widened alone and inside the operations that take them.
#include <gtest/gtest.h>

#include <map>

#include "backend/ops_fixture.h"
#include "tensor/storage_type.h"

namespace mochi {
namespace {

// Places of the F16 scales in a block, which random bytes would make infinite.
const std::map<BlockFormat, std::vector<std::size_t>> kScalePlaces{
    {BlockFormat::kQ8_0, {0}},  {BlockFormat::kQ4_0, {0}},    {BlockFormat::kQ4_1, {0, 2}},
    {BlockFormat::kQ5_0, {0}},  {BlockFormat::kQ5_1, {0, 2}}, {BlockFormat::kQ2K, {80, 82}},
    {BlockFormat::kQ3K, {108}}, {BlockFormat::kQ4K, {0, 2}},  {BlockFormat::kQ5K, {0, 2}},
    {BlockFormat::kQ6K, {208}},
};

struct CompactCase {
  StorageType type;
  Shape shape;
  std::int64_t num_scales;
};

void PrintTo(const CompactCase& which, std::ostream* out) {
  *out << storage_type_name(which.type) << " " << which.shape.to_string();
}

// Owns a compact matrix of random elements on the host.
struct CompactMatrixOnHost {
  CompactMatrixOnHost(const CompactCase& which, std::mt19937& generator)
      : elements(
            DType::kU8,
            {static_cast<std::int64_t>(storage_bytes(which.type, which.shape.num_elements()))}),
        scales(DType::kF32, {std::max<std::int64_t>(which.num_scales, 1)}) {
    fill_elements(which.type, generator);
    std::uniform_real_distribution<float> scale(0.5F, 2.0F);
    for (float& value : scales.view().f32()) value = scale(generator);
    const TensorView used_scales = which.num_scales > 0 ? scales.view() : TensorView();
    view = MatrixView(which.type, elements, used_scales, which.shape, DType::kF32);
  }

  void fill_elements(const StorageType& type, std::mt19937& generator) {
    const TensorView& bytes = elements.view();
    for (std::size_t i = 0; i < bytes.size_bytes(); ++i) {
      // Without the exponent of 8-bit floats that are not finite.
      const auto byte = static_cast<std::byte>(generator());
      const bool is_float8 = std::holds_alternative<DType>(type) && type != StorageType(DType::kI8);
      bytes.bytes()[i] = is_float8 ? byte & std::byte{0xb7} : byte;
    }
    const auto* const format = std::get_if<BlockFormat>(&type);
    if (format == nullptr) return;
    std::uniform_real_distribution<float> scale(-0.1F, 0.1F);
    for (std::size_t block = 0; block < bytes.size_bytes(); block += bytes_per_block(*format)) {
      for (const std::size_t place : kScalePlaces.at(*format)) {
        const std::uint16_t bits = f32_to_f16(scale(generator));
        std::memcpy(bytes.bytes() + block + place, &bits, sizeof(bits));
      }
    }
  }

  // Returns the values as widen_rows() gives them.
  Tensor values() const {
    Tensor wide(DType::kF32, view.shape());
    const std::span<const float> used =
        view.scales() ? std::span<const float>(view.scales().f32()) : std::span<const float>();
    widen_rows(view.type(), {elements.view().bytes(), elements.view().size_bytes()}, used,
               view.dim(0), wide.view().f32());
    return wide;
  }

  Tensor elements, scales;
  MatrixView view;
};

using Widen = OverBackendsAnd<OpsFixture, CompactCase>;

bool are_equal(const TensorView& a, const TensorView& b) {
  return std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

TEST_P(Widen, GivesTheRoundedValues) {
  const CompactMatrixOnHost matrix(param(), generator_);
  const Tensor want = matrix.values();
  round(want);
  const Tensor got = poisoned(param().shape);
  backend_->run(ops::Widen{.matrix = matrix.view, .out = got});
  EXPECT_TRUE(are_equal(got, want));
}

// Covers sizes that are not whole tiles of the kernels, and rows that are not whole vectors.
INSTANTIATE_TEST_SUITE_P(
    On, Widen,
    testing::Combine(all_backends(), testing::Values(CompactCase{BlockFormat::kQ8_0, {37, 96}, 0},
                                                     CompactCase{BlockFormat::kQ8_0, {64, 256}, 0},
                                                     CompactCase{BlockFormat::kQ4_0, {37, 96}, 0},
                                                     CompactCase{BlockFormat::kQ4_1, {37, 96}, 0},
                                                     CompactCase{BlockFormat::kQ5_0, {37, 96}, 0},
                                                     CompactCase{BlockFormat::kQ5_1, {37, 96}, 0},
                                                     CompactCase{BlockFormat::kQ2K, {11, 768}, 0},
                                                     CompactCase{BlockFormat::kQ3K, {11, 768}, 0},
                                                     CompactCase{BlockFormat::kQ4K, {11, 768}, 0},
                                                     CompactCase{BlockFormat::kQ5K, {11, 768}, 0},
                                                     CompactCase{BlockFormat::kQ6K, {11, 768}, 0},
                                                     CompactCase{DType::kF8E4M3, {37, 96}, 37},
                                                     CompactCase{DType::kF8E4M3, {21, 33}, 1},
                                                     CompactCase{DType::kF8E5M2, {37, 96}, 0},
                                                     CompactCase{DType::kI8, {5, 4100}, 5})),
    name_of_combined<CompactCase>);

using CompactOps = OverBackends<OpsFixture>;
INSTANTIATE_TEST_SUITE_P(On, CompactOps, all_backends(), name_of_case);

// Each operation gives the bits that it gives with the widened matrix.
TEST_P(CompactOps, TakeCompactMatrices) {
  const CompactMatrixOnHost matrix({BlockFormat::kQ8_0, {192, 64}, 0}, generator_);
  const Tensor dense = matrix.values();
  round(dense);
  const Tensor x = random({9, 64});
  const auto expect_same = [&](const Shape& shape, const auto& run) {
    const Tensor want = poisoned(shape);
    const Tensor got = poisoned(shape);
    run(MatrixView(dense), want);
    run(matrix.view, got);
    EXPECT_TRUE(are_equal(got, want));
  };
  Arena scratch;
  expect_same({9, 192}, [&](const MatrixView& weight, const TensorView& out) {
    backend_->run(ops::Linear{.x = x, .weight = weight, .out = out});
  });
  expect_same({9, 96}, [&](const MatrixView& weight, const TensorView& out) {
    backend_->run(ops::GatedLinear{
        .x = x, .weight = weight, .activation = Activation::kSilu, .scratch = scratch, .out = out});
  });
  expect_same({64, 192}, [&](const MatrixView& weight, const TensorView& out) {
    backend_->run(ops::Transpose{.x = weight, .out = out});
  });
  const Tensor norm = random({32});
  const Tensor k = poisoned({2, 9, 32});
  const Tensor v = poisoned({2, 9, 32});
  expect_same({2, 9, 32}, [&](const MatrixView& weight, const TensorView& q) {
    backend_->run(ops::QkvLinear{.x = x,
                                 .weight = weight,
                                 .norm = {norm, norm, {}, {}, 1e-5F},
                                 .offset = 0,
                                 .scratch = scratch,
                                 .q = q,
                                 .k = k,
                                 .v = v});
  });
}

// A larger matrix after a smaller one needs more memory, a smaller one uses its beginning.
TEST_P(CompactOps, ShareTheMemoryOfTheDenseMatrix) {
  for (const std::int64_t rows : {32, 320, 64}) {
    const CompactMatrixOnHost matrix({DType::kF8E4M3, {rows, 64}, rows}, generator_);
    const Tensor dense = matrix.values();
    round(dense);
    const Tensor x = random({3, 64});
    const Tensor want = poisoned({3, rows});
    const Tensor got = poisoned({3, rows});
    backend_->run(ops::Linear{.x = x, .weight = dense, .out = want});
    backend_->run(ops::Linear{.x = x, .weight = matrix.view, .out = got});
    EXPECT_TRUE(are_equal(got, want)) << rows;
  }
}

TEST(CompactContract, RefusesMatricesThatDoNotFit) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  std::mt19937 generator(1);
  const CompactMatrixOnHost matrix({BlockFormat::kQ8_0, {4, 32}, 0}, generator);
  const Tensor out(DType::kF32, {4, 32});
  const Tensor three(DType::kF32, {3});
  const auto widen = [&](const StorageType& type, const TensorView& scales, const Shape& shape) {
    backend->run(ops::Widen{.matrix = MatrixView(type, matrix.elements, scales, shape, DType::kF32),
                            .out = out});
  };
  EXPECT_NO_THROW(widen(BlockFormat::kQ8_0, {}, {4, 32}));
  EXPECT_THROW(widen(BlockFormat::kQ8_0, {}, {4, 64}), Error);     // too few bytes
  EXPECT_THROW(widen(BlockFormat::kQ4K, {}, {4, 32}), Error);      // no whole block
  EXPECT_THROW(widen(BlockFormat::kQ8_0, three, {4, 32}), Error);  // neither one nor four scales
  EXPECT_THROW(widen(DType::kI32, {}, {4, 32}), Error);            // not compact
}

}  // namespace
}  // namespace mochi
