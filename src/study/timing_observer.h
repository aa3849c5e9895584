// Measures the engine's work on behalf of a study.
#pragma once

#include <map>
#include <vector>

#include "study/study_observer.h"

namespace mochi::study {

struct RunTimes {
  std::map<Phase, double> seconds;        // by phase
  std::vector<double> step_seconds;       // one value per sampling step
  std::vector<int> evaluated_steps = {};  // steps that evaluated the transformer, from 0

  void add(const RunTimes& other);
};

// Passes progress on to a study's observer, and measures phases and steps. For one call of the
// engine.
class TimingObserver : public Observer {
 public:
  // `study` must outlive this.
  explicit TimingObserver(StudyObserver& study) : study_(study) {}

  bool on_progress(const Progress& progress) override;
  void on_step(const StepView& view) override { times_.evaluated_steps = view.evaluated_steps(); }
  bool should_stop() override { return study_.should_stop(); }

  const RunTimes& times() const { return times_; }

 private:
  StudyObserver& study_;
  RunTimes times_;
  double item_begin_ = 0;  // seconds of the phase before the current item
  double step_begin_ = 0;
};

}  // namespace mochi::study
