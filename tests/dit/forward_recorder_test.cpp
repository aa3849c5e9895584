#include "dit/forward_recorder.h"

#include <gtest/gtest.h>

#include "support/mirror_backend.h"

namespace mochi {
namespace {

// Counts captures and replays.
class RecordingBackend final : public MirrorBackend {
 public:
  using MirrorBackend::MirrorBackend;

  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    fn();
    return std::make_unique<Counter>(num_replayed);
  }
  int num_replayed = 0;

 private:
  struct Counter final : CapturedGraph {
    explicit Counter(int& count) : num_replayed(count) {}
    bool replay() override {
      ++num_replayed;
      return true;
    }
    int& num_replayed;
  };
};

// Each branch and kind has its own captured graph, which a new epoch invalidates.
TEST(ForwardRecorder, KeepsOneCapturedGraphPerKind) {
  const std::unique_ptr<Backend> cpu = make_backend(Device::kCpu);
  RecordingBackend backend(*cpu);
  ForwardRecorder recorder;
  int num_runs = 0;
  const auto run_all = [&](std::uint64_t epoch) {
    num_runs = backend.num_replayed = 0;
    for (const Branch branch : {Branch::kCond, Branch::kNull}) {
      for (const std::uint32_t kind : {0U, 1U, 5U}) {
        recorder.run(backend, branch, {{}, 0, {kind, epoch}}, [&] { ++num_runs; });
      }
    }
    return std::pair{num_runs, backend.num_replayed};
  };
  using Counts = std::pair<int, int>;
  EXPECT_EQ(run_all(1), Counts(6, 0));  // run directly
  EXPECT_EQ(run_all(1), Counts(6, 0));  // captured
  EXPECT_EQ(run_all(1), Counts(0, 6));
  EXPECT_EQ(run_all(2), Counts(6, 0));
  EXPECT_EQ(run_all(2), Counts(6, 0));
  EXPECT_EQ(run_all(2), Counts(0, 6));
}

// A backend that captures nothing runs the work each time.
TEST(ForwardRecorder, RunsEveryCallWithoutCapturing) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  ForwardRecorder recorder;
  const std::byte memory[2]{};
  int num_runs = 0;
  for (int i = 0; i < 3; ++i) {
    recorder.run(*backend, Branch::kCond, {{memory}}, [&] { ++num_runs; });
    recorder.run(*backend, Branch::kNull, {{memory + 1}}, [&] { ++num_runs; });
  }
  EXPECT_EQ(num_runs, 6);
}

}  // namespace
}  // namespace mochi
