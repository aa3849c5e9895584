#include "bench/op_bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace mochi::bench {
namespace {

constexpr std::int64_t kRows = 10;
constexpr std::int64_t kWidth = 8;

class OpBench : public testing::Test {
 protected:
  // silu of the last three rows is verified; the device's result gets `error` more at one place.
  OpCase broken_silu(std::int64_t row, float error) {
    return {.name = "silu",
            .size = "",
            .num_rows = kRows,
            .num_verified = 3,
            .make = [=, this](Inputs& in, std::int64_t rows) -> OpTask {
              const TensorView x = in.activations({rows, kWidth});
              const TensorView out = in.output({rows, kWidth});
              return [=, this](Backend& backend) {
                backend.run(ops::Silu{.x = x, .out = out});
                if (&backend == device_.get()) out.rows(row, row + 1).f32()[0] += error;
              };
            }};
  }
  double verify(const OpCase& op) {
    RandomInputs inputs(*device_, 3);
    const OpTask task = op.make(inputs, op.num_rows);
    return verify_op(op, inputs, task, *device_, *oracle_);
  }

  std::unique_ptr<Backend> device_ = make_backend(Device::cpu());
  std::unique_ptr<Backend> oracle_ = make_backend(Device::cpu());
};

TEST_F(OpBench, RightResultsHaveNoError) { EXPECT_EQ(verify(broken_silu(9, 0.0F)), 0.0); }

TEST_F(OpBench, ErrorsInVerifiedRowsAreFound) {
  EXPECT_GT(verify(broken_silu(9, 0.5F)), max_op_error(DType::kBF16));
  EXPECT_GT(verify(broken_silu(7, 0.5F)), max_op_error(DType::kBF16));
  EXPECT_EQ(verify(broken_silu(6, 0.5F)), 0.0);  // the oracle has not computed it
}

TEST_F(OpBench, ElementsThatAreNeverWrittenAreFound) {
  const OpCase nothing{.name = "nothing",
                       .size = "",
                       .num_rows = kRows,
                       .num_verified = 3,
                       .make = [](Inputs& in, std::int64_t rows) -> OpTask {
                         in.output({rows, kWidth});
                         return [](Backend& /*backend*/) {};
                       }};
  EXPECT_TRUE(std::isinf(verify(nothing)));
}

TEST_F(OpBench, LimitsDecide) {
  Measurement measurement;
  EXPECT_TRUE(measurement.is_right());
  measurement.max_error = 1e-3;
  measurement.relative_error = 1e-3;
  EXPECT_TRUE(measurement.is_right());
  measurement.relative_error = 1.1e-3;
  EXPECT_FALSE(measurement.is_right());
  measurement.relative_error = std::nan("");
  EXPECT_FALSE(measurement.is_right());
  measurement.relative_error.reset();
  measurement.problem = "missing";
  EXPECT_FALSE(measurement.is_right());
}

TEST_F(OpBench, LastRowsAreThoseOfTheirAxis) {
  RandomInputs inputs(*device_, 1);
  const TensorView x = inputs.activations({2, 5, 3}, 1);
  const Tensor last = download_last_rows(*device_, x, {2, 2, 3}, 1);
  for (std::size_t outer = 0; outer < 2; ++outer) {
    for (std::size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(last.view().f32()[outer * 6 + i], x.f32()[outer * 15 + 9 + i]);
    }
  }
  EXPECT_THROW(download_last_rows(*device_, x, {2, 6, 3}, 1), Error);
}

TEST_F(OpBench, TensorsOfACaseDiffer) {
  RandomInputs inputs(*device_, 1);
  const TensorView a = inputs.activations({100});
  const TensorView b = inputs.activations({100});
  EXPECT_GT(std::abs(a.f32()[0] - b.f32()[0]), 0.0F);
  RandomInputs others(*device_, 2);
  const TensorView c = others.activations({100});
  EXPECT_GT(std::abs(a.f32()[0] - c.f32()[0]), 0.0F);
}

TEST_F(OpBench, EveryOperationsCaseIsVerified) {
  const Sizes sizes = sizes_of("micro");
  for (const OpCase& op : list_op_cases(sizes)) {
    if (op.name == "temporal_attention" || op.num_rows < 2) continue;
    EXPECT_LE(verify(op), 1e-5) << op.name << " " << op.size;
  }
}

TEST_F(OpBench, TheNearerCeilingCounts) {
  const Ceilings ceilings{.flops_per_second = 100, .bytes_per_second = 10};
  EXPECT_DOUBLE_EQ(ceilings.floor_of(1000, 10), 10);
  EXPECT_DOUBLE_EQ(ceilings.floor_of(100, 50), 5);
  EXPECT_DOUBLE_EQ(Ceilings().floor_of(100, 50), 0);
}

}  // namespace
}  // namespace mochi::bench
