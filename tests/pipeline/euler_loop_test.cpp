#include "pipeline/euler_loop.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "base/error.h"
#include "base/temp_folder.h"
#include "pipeline/sigma_schedule.h"

namespace mochi {
namespace {

class Sampler : public testing::Test {
 protected:
  Sampler() {
    const auto values = z_.view().f32();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = noise(i);
  }

  static float noise(std::size_t i) { return static_cast<float>(i) - 2.5F; }
  static float data(std::size_t i) { return 0.25F * static_cast<float>(i * i); }

  static StepPlan plan(int num_steps, double cfg) {
    return {linear_quadratic_schedule(num_steps, 0.1, 0),
            std::vector<double>(static_cast<std::size_t>(num_steps), cfg)};
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
  Arena scratch_{backend_->allocator()};
  Context ctx_{*backend_, scratch_};
  Tensor z_{DType::kF32, {6}};
  const StepFn go_on_ = [](int) { return true; };
};

TEST_F(Sampler, FollowsAStraightLineExactly) {
  // The velocity of a straight path is the same everywhere: data − noise.
  const DenoiseFn straight = [](Branch, int, double, const TensorView&, const TensorView& out) {
    for (std::size_t i = 0; i < 6; ++i) out.f32()[i] = data(i) - noise(i);
  };
  EXPECT_TRUE(run_euler_loop(ctx_, plan(16, 1.0), straight, go_on_, z_));
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(z_.view().f32()[i], data(i), 2e-6);
}

TEST_F(Sampler, GuidesAwayFromTheUnconditionalBranch) {
  // Constant velocities a and b: z ends at noise + b + cfg·(a − b).
  const DenoiseFn constant = [](Branch branch, int, double, const TensorView&,
                                const TensorView& out) {
    for (float& value : out.f32()) value = branch == Branch::kCond ? 3.0F : 1.0F;
  };
  EXPECT_TRUE(run_euler_loop(ctx_, plan(5, 4.0), constant, go_on_, z_));
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(z_.view().f32()[i], noise(i) + 1 + 4 * (3 - 1), 1e-5);
  }
}

TEST_F(Sampler, SolvesAnEquationThatDependsOnNoiseLevel) {
  // 2σ integrates to 1 over the noise levels; Euler's error falls with the number of steps.
  const auto error_with = [&](int num_steps) {
    for (std::size_t i = 0; i < 6; ++i) z_.view().f32()[i] = noise(i);
    const DenoiseFn flow = [](Branch, int, double sigma, const TensorView&, const TensorView& out) {
      for (float& value : out.f32()) value = static_cast<float>(2 * sigma);
    };
    run_euler_loop(ctx_, plan(num_steps, 1.0), flow, go_on_, z_);
    return std::abs(z_.view().f32()[0] - (noise(0) + 1));
  };
  const float coarse = error_with(8);
  const float fine = error_with(64);
  EXPECT_LT(fine, coarse / 4);
  EXPECT_GT(coarse, 0.01F);
}

TEST_F(Sampler, SkipsTheUnconditionalBranchIfGuidanceIsOne) {
  std::vector<std::string> calls;
  const DenoiseFn record = [&](Branch branch, int step, double, const TensorView&,
                               const TensorView& out) {
    calls.push_back((branch == Branch::kCond ? "c" : "n") + std::to_string(step));
    for (float& value : out.f32()) value = 0;
  };
  StepPlan mixed = plan(3, 1.0);
  mixed.cfgs[1] = 5.0;
  EXPECT_TRUE(mixed.needs_null_branch());
  EXPECT_FALSE(plan(3, 1.0).needs_null_branch());
  run_euler_loop(ctx_, mixed, record, go_on_, z_);
  EXPECT_EQ(calls, (std::vector<std::string>{"c0", "c1", "n1", "c2"}));
}

TEST_F(Sampler, StopsWhenAsked) {
  int num_calls = 0;
  const DenoiseFn count = [&](Branch, int, double, const TensorView&, const TensorView& out) {
    ++num_calls;
    for (float& value : out.f32()) value = 0;
  };
  std::vector<int> reported;
  const StepFn stop_after_two = [&](int num_done) {
    reported.push_back(num_done);
    return num_done < 2;
  };
  EXPECT_FALSE(run_euler_loop(ctx_, plan(8, 1.0), count, stop_after_two, z_));
  EXPECT_EQ(num_calls, 2);
  EXPECT_EQ(reported, (std::vector<int>{1, 2}));
}

TEST_F(Sampler, RefusesAPlanOfUnequalLengths) {
  StepPlan broken = plan(4, 1.0);
  broken.cfgs.pop_back();
  const DenoiseFn nothing = [](Branch, int, double, const TensorView&, const TensorView&) {};
  EXPECT_THROW(run_euler_loop(ctx_, broken, nothing, go_on_, z_), Error);
}

}  // namespace
}  // namespace mochi
