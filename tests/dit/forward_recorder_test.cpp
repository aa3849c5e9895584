#include "dit/forward_recorder.h"

#include <gtest/gtest.h>

#include "support/mirror_backend.h"

namespace mochi {
namespace {

// Counts captures and replays, and has a memory epoch that the test sets.
class RecordingRuntime final : public MirrorRuntime {
 public:
  using MirrorRuntime::MirrorRuntime;

  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    fn();
    return std::make_unique<Counter>(num_replayed);
  }
  std::uint64_t memory_epoch() const override { return epoch; }

  int num_replayed = 0;
  std::uint64_t epoch = 7;

 private:
  struct Counter final : CapturedGraph {
    explicit Counter(int& count) : num_replayed(count) {}
    void replay() override { ++num_replayed; }
    int& num_replayed;
  };
};

class Recording : public testing::Test {
 protected:
  using Counts = std::pair<int, int>;  // runs, replays

  // Every branch and kind once.
  Counts run_all(std::uint32_t version) {
    int num_runs = 0;
    runtime_.num_replayed = 0;
    for (const Branch branch : {Branch::kCond, Branch::kNull}) {
      for (const std::uint32_t kind : {0U, 1U, 5U}) {
        recorder_.run(runtime_, branch, {kind, version}, [&] { ++num_runs; });
      }
    }
    return {num_runs, runtime_.num_replayed};
  }

  std::unique_ptr<Backend> cpu_ = make_backend(Device::cpu());
  RecordingRuntime runtime_{*cpu_};
  ForwardRecorder recorder_;
};

TEST_F(Recording, EachBranchAndKindHasItsGraph) {
  EXPECT_EQ(run_all(1), Counts(6, 0));  // run directly
  EXPECT_EQ(run_all(1), Counts(6, 0));  // captured
  EXPECT_EQ(run_all(1), Counts(0, 6));
}

TEST_F(Recording, ANewVersionBeginsAgain) {
  for (int i = 0; i < 3; ++i) run_all(1);
  EXPECT_EQ(run_all(2), Counts(6, 0));
  EXPECT_EQ(run_all(2), Counts(6, 0));
  EXPECT_EQ(run_all(2), Counts(0, 6));
}

TEST_F(Recording, MemoryThatMovedBeginsAgain) {
  for (int i = 0; i < 3; ++i) run_all(1);
  ++runtime_.epoch;
  EXPECT_EQ(run_all(1), Counts(6, 0));
  EXPECT_EQ(run_all(1), Counts(6, 0));
  EXPECT_EQ(run_all(1), Counts(0, 6));
}

// A pass that allocates is followed by one that does not, which is captured next.
TEST_F(Recording, AllocationsOfTheFirstPassDoNotCount) {
  int num_runs = 0;
  const auto run = [&](bool allocates) {
    recorder_.run(runtime_, Branch::kCond, {}, [&] {
      ++num_runs;
      if (allocates) ++runtime_.epoch;
    });
  };
  run(true);
  run(false);
  run(false);
  EXPECT_EQ(num_runs, 2);
  EXPECT_EQ(runtime_.num_replayed, 1);
}

// A device that captures nothing runs the work each time.
TEST(ForwardRecorder, RunsEveryCallWithoutCapturing) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  ForwardRecorder recorder;
  int num_runs = 0;
  for (int i = 0; i < 3; ++i) {
    recorder.run(backend->device(), Branch::kCond, {}, [&] { ++num_runs; });
    recorder.run(backend->device(), Branch::kNull, {}, [&] { ++num_runs; });
  }
  EXPECT_EQ(num_runs, 6);
}

}  // namespace
}  // namespace mochi
