#include "study/timing_observer.h"

#include <iterator>

namespace mochi::study {

void RunTimes::add(const RunTimes& other) {
  for (const auto& [phase, more] : other.seconds) seconds[phase] += more;
  step_seconds.insert(step_seconds.end(), other.step_seconds.begin(), other.step_seconds.end());
}

bool TimingObserver::on_progress(const Progress& progress) {
  double& seconds = times_.seconds[progress.phase];
  // A phase may have several items: the networks that are loaded.
  if (progress.num_done == progress.num_before) item_begin_ = seconds;
  seconds = item_begin_ + progress.seconds;
  if (progress.phase == Phase::kSampling && progress.num_done > std::ssize(times_.step_seconds)) {
    times_.step_seconds.push_back(progress.seconds - step_begin_);
    step_begin_ = progress.seconds;
  }
  return study_.on_progress(progress) && !study_.should_stop();
}

}  // namespace mochi::study
