#include "study/timing_observer.h"

#include <gtest/gtest.h>

namespace mochi::study {
namespace {

class Recorder : public StudyObserver {
 public:
  bool on_progress(const Progress& progress) override {
    last = progress.phase;
    return true;
  }
  bool should_stop() override { return stops; }

  Phase last = Phase::kLoading;
  bool stops = false;
};

TEST(TimingObserver, AddsUpTheItemsOfAPhase) {
  Recorder study;
  TimingObserver timing(study);
  for (const char* item : {"text encoder", "transformer"}) {
    timing.on_progress({.phase = Phase::kLoading, .item = item, .num_done = 0, .num_total = 2});
    timing.on_progress({Phase::kLoading, item, 1, 2, 0.5});
    timing.on_progress({Phase::kLoading, item, 2, 2, 1.5});
  }
  EXPECT_DOUBLE_EQ(timing.times().seconds.at(Phase::kLoading), 3);
  EXPECT_TRUE(timing.times().step_seconds.empty());
}

TEST(TimingObserver, MeasuresStepsAndPassesThemOn) {
  Recorder study;
  TimingObserver timing(study);
  EXPECT_TRUE(timing.on_progress({Phase::kSampling, "", 0, 3, 0}));
  timing.on_progress({Phase::kSampling, "", 1, 3, 2});
  timing.on_progress({Phase::kSampling, "", 2, 3, 3});
  timing.on_progress({Phase::kSampling, "", 3, 3, 7});
  timing.on_progress({Phase::kSampling, "", 3, 3, 7});
  EXPECT_EQ(timing.times().step_seconds, (std::vector<double>{2, 1, 4}));
  EXPECT_EQ(study.last, Phase::kSampling);
}

TEST(TimingObserver, KnowsTheEvaluatedSteps) {
  class View : public StepView {
   public:
    int num_done() const override { return 4; }
    int num_steps() const override { return 4; }
    const Latents& latents() const override { return latents_; }
    std::vector<int> evaluated_steps() const override { return {0, 1, 3}; }
    std::optional<SamplerState> state() const override { return std::nullopt; }

   private:
    Latents latents_;
  };
  Recorder study;
  TimingObserver timing(study);
  timing.on_step(View());
  EXPECT_EQ(timing.times().evaluated_steps, (std::vector<int>{0, 1, 3}));
}

TEST(TimingObserver, StopsWithItsStudy) {
  Recorder study;
  TimingObserver timing(study);
  EXPECT_FALSE(timing.should_stop());
  study.stops = true;
  EXPECT_TRUE(timing.should_stop());
  EXPECT_FALSE(timing.on_progress({Phase::kSampling, "", 1, 3, 2}));
}

}  // namespace
}  // namespace mochi::study
