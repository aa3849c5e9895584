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

TEST(Measure, BatchesHaveTheRequestedLengthAndTasksTakeTurns) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  int num_first = 0;
  int num_second = 0;
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::microseconds(200)); };
  const Timing timing = time_batches(*backend,
                                     {[&] {
                                        ++num_first;
                                        wait();
                                      },
                                      [&] {
                                        ++num_second;
                                        wait();
                                      }},
                                     3, 0.005);
  EXPECT_EQ(timing.num_batches, 3);
  EXPECT_GE(timing.batch_size, 2);
  EXPECT_LE(timing.batch_size, 50);  // 5 ms and what the estimate may be off by
  EXPECT_LE(std::abs(num_first - num_second), 1);
  EXPECT_GE(num_first + num_second, 3 * timing.batch_size + 2);
  EXPECT_GE(timing.seconds, 200e-6);
  EXPECT_LE(timing.fastest, timing.seconds);
  EXPECT_GE(timing.slowest, timing.seconds);
}

TEST(Measure, SlowTasksRunOncePerBatch) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  int num_runs = 0;
  const Timing timing = time_batches(*backend, {[&] {
    ++num_runs;
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }},
                                     2, 0.002);
  EXPECT_EQ(timing.batch_size, 1);
  EXPECT_EQ(num_runs, 2 + 2);  // one round that does not count, one to estimate by
}

}  // namespace
}  // namespace mochi::bench
