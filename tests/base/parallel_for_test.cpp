#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

// Sets the number of threads for one test.
class ParallelFor : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_num_threads(GetParam()); }
  void TearDown() override { set_num_threads(0); }
};

TEST_P(ParallelFor, VisitsEveryIndexOnce) {
  for (const std::int64_t count : {0, 1, 7, 1000, 4097}) {
    for (const std::int64_t grain : {0, 1, 64, 100000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      parallel_for(10, 10 + count, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i - 10)];
      });
      for (const auto& num_visits : visits) ASSERT_EQ(num_visits, 1);
    }
  }
}

TEST_P(ParallelFor, RangesHaveAtLeastTheGrain) {
  std::mutex mutex;
  std::vector<std::int64_t> sizes;
  parallel_for(0, 1000, 300, [&](std::int64_t begin, std::int64_t end) {
    const std::scoped_lock lock(mutex);
    sizes.push_back(end - begin);
  });
  std::int64_t num_short = 0;
  for (const std::int64_t size : sizes) num_short += size < 300 ? 1 : 0;
  EXPECT_LE(num_short, 1);
}

TEST_P(ParallelFor, EmptyRangeCallsNothing) {
  parallel_for(5, 5, 1, [](std::int64_t, std::int64_t) { FAIL(); });
  parallel_for(5, 4, 1, [](std::int64_t, std::int64_t) { FAIL(); });
}

TEST_P(ParallelFor, ExceptionsReachTheCaller) {
  const auto run = [] {
    parallel_for(0, 1000, 1, [](std::int64_t begin, std::int64_t end) {
      if (begin <= 500 && 500 < end) throw std::out_of_range("index 500");
    });
  };
  EXPECT_EQ(message_of<std::out_of_range>(run), "index 500");
}

TEST_P(ParallelFor, NestedCallsWork) {
  std::atomic<std::int64_t> sum = 0;
  parallel_for(0, 50, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      parallel_for(0, 100, 1, [&](std::int64_t inner_begin, std::int64_t inner_end) {
        sum += inner_end - inner_begin;
      });
    }
  });
  EXPECT_EQ(sum, 5000);
}

TEST_P(ParallelFor, UsesNoMoreThreadsThanSet) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  parallel_for(0, 1000, 1, [&](std::int64_t, std::int64_t) {
    const std::scoped_lock lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_LE(threads.size(), static_cast<std::size_t>(GetParam()));
  EXPECT_EQ(num_threads(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelFor, testing::Values(1, 2, 5));

TEST(NumThreads, ZeroMeansAllAndNegativeIsRefused) {
  set_num_threads(0);
  EXPECT_GE(num_threads(), 1);
  EXPECT_THROW(set_num_threads(-1), Error);
}

}  // namespace
}  // namespace mochi
