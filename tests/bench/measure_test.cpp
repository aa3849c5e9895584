#include "bench/measure.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>

namespace mochi::bench {
namespace {

TEST(Measure, MedianIsTheMiddle) {
  EXPECT_EQ(median({3.0}), 3.0);
  EXPECT_EQ(median({9.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(median({9.0, 1.0, 2.0, 4.0}), 3.0);
}

// Time passes only while a task runs.
class MeasuredBatches : public ::testing::Test {
 protected:
  Task task_of(double seconds, int& num_runs) {
    return [this, seconds, &num_runs] {
      ++num_runs;
      now_ += seconds;
    };
  }

  Timing time(const std::vector<Task>& tasks, int num_batches, double min_batch_seconds) {
    return time_batches(*backend_, tasks, num_batches, min_batch_seconds, [&] { return now_; });
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
  double now_ = 100;
};

TEST_F(MeasuredBatches, HaveTheRequestedLengthAndTasksTakeTurns) {
  int num_first = 0;
  int num_second = 0;
  const Timing timing = time({task_of(2e-4, num_first), task_of(3e-4, num_second)}, 3, 0.01);
  EXPECT_EQ(timing.num_batches, 3);
  EXPECT_GE(timing.batch_size, 40);  // 10 ms of 0.25 ms each
  EXPECT_LE(timing.batch_size, 60);
  EXPECT_LE(std::abs(num_first - num_second), 1);
  EXPECT_GE(num_first + num_second, 3 * timing.batch_size + 2);
  EXPECT_NEAR(timing.seconds, 2.5e-4, 1e-5);
  EXPECT_LE(timing.fastest, timing.seconds);
  EXPECT_GE(timing.slowest, timing.seconds);
}

TEST_F(MeasuredBatches, SlowTasksRunOncePerBatch) {
  int num_runs = 0;
  const Timing timing = time({task_of(0.003, num_runs)}, 2, 0.002);
  EXPECT_EQ(timing.batch_size, 1);
  EXPECT_EQ(num_runs, 2 + 2);  // one round that does not count, one to estimate by
}

TEST(Measure, TheSteadyClockCountsSeconds) {
  const double before = steady_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  EXPECT_GE(steady_seconds() - before, 0.003);
}

}  // namespace
}  // namespace mochi::bench
