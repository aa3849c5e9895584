// The reports of a running search.
#pragma once

#include <cstddef>

#include "study/study_observer.h"
#include "study/tune_record.h"

namespace mochi::study {

class TuneObserver : public StudyObserver {
 public:
  // The dense video of a prompt was sampled.
  virtual void on_dense_video(std::size_t /*prompt_idx*/, std::size_t /*num_prompts*/,
                              double /*seconds*/) {}
  // A trial has ended. `seconds_left`: the most that the other trials may take; 0: unknown.
  virtual void on_trial(const TuneRecord& /*record*/, std::size_t /*trial_idx*/,
                        double /*seconds_left*/) {}
};

}  // namespace mochi::study
