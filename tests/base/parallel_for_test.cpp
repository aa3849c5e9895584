#include "base/parallel_for.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <mutex>
#include <new>
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

std::int64_t sum_of_ones(std::int64_t count) {
  std::atomic<std::int64_t> sum = 0;
  parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  return sum;
}

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

TEST_P(ParallelFor, LackOfMemoryReachesTheCaller) {
  const auto run = [] {
    parallel_for(0, 1000, 1, [](std::int64_t, std::int64_t) { throw std::bad_alloc(); });
  };
  EXPECT_THROW(run(), std::bad_alloc);
  EXPECT_EQ(sum_of_ones(1000), 1000);
}

TEST_P(ParallelFor, SeveralCallersAtOnceGetTheirOwnResults) {
  constexpr int kNumCallers = 12;  // more than can share the workers
  std::vector<std::int64_t> sums(kNumCallers);
  std::vector<std::thread> callers;
  for (int i = 0; i < kNumCallers; ++i) {
    callers.emplace_back([&, i] {
      for (int repeat = 0; repeat < 200; ++repeat) {
        sums[static_cast<std::size_t>(i)] += sum_of_ones(100 + i);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (int i = 0; i < kNumCallers; ++i)
    EXPECT_EQ(sums[static_cast<std::size_t>(i)], 200 * (100 + i));
}

TEST_P(ParallelFor, WorksInAForkedChild) {
  EXPECT_EQ(sum_of_ones(1000), 1000);  // the workers exist, and stay behind
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    const bool is_right = sum_of_ones(1000) == 1000;
    set_num_threads(GetParam() + 1);
    ::_exit(is_right && sum_of_ones(1000) == 1000 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_P(ParallelFor, AStopScopeEndsItWhenAllThreadsHaveComeBack) {
  std::atomic<std::int64_t> num_begun = 0;
  std::atomic<int> num_running = 0;
  const StopFn should_stop = [&] { return num_begun > 0; };
  const auto run = [&] {
    parallel_for(0, 1000, 1, [&](std::int64_t begin, std::int64_t end) {
      ++num_running;
      num_begun += end - begin;
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      --num_running;
    });
  };
  {
    const StopScope scope(should_stop);
    EXPECT_THROW(run(), Cancelled);
  }
  EXPECT_LT(num_begun, 1000);
  EXPECT_EQ(num_running, 0);
  EXPECT_EQ(sum_of_ones(1000), 1000);
}

TEST_P(ParallelFor, TheInnermostStopScopeOfTheThreadCounts) {
  const StopFn always = [] { return true; };
  const StopFn never;
  const StopScope outer(always);
  {
    const StopScope inner(never);
    EXPECT_EQ(sum_of_ones(1000), 1000);
  }
  std::int64_t sum_of_other = 0;
  std::thread([&] { sum_of_other = sum_of_ones(1000); }).join();
  EXPECT_EQ(sum_of_other, 1000);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_THROW(sum_of_ones(1000), Cancelled);
}

// Some ranges sleep: those who wait for them, and workers without work, must not burn the
// processor.
TEST_P(ParallelFor, WaitingTakesNoProcessorTime) {
  const auto processor_seconds = [] {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = processor_seconds();
  parallel_for(0, 2, 1, [](std::int64_t, std::int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(processor_seconds() - before, 0.1);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelFor, testing::Values(1, 2, 5));

TEST(NumThreads, ZeroMeansAllAndNegativeIsRefused) {
  set_num_threads(0);
  EXPECT_GE(num_threads(), 1);
  EXPECT_THROW(set_num_threads(-1), Error);
}

TEST(NumThreads, SerialScopeDoesNotChangeTheDefault) {
  int wanted = 0;
  std::thread([&] { wanted = omp_get_max_threads(); }).join();
  const SerialScope serial;
  EXPECT_EQ(num_threads(), wanted);
}

}  // namespace
}  // namespace mochi
