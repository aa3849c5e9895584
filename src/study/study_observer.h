// The reports of a running study. A face (the command line, a server) decides which ones to show.
#pragma once

#include <string_view>

#include "mochi/mochi.h"

namespace mochi::study {

// All members have defaults that do nothing. They are called from the thread that runs the study.
// Exceptions that they throw end the study and come out of it.
class StudyObserver {
 public:
  virtual ~StudyObserver() = default;
  // A part of the study begins: "1 of 3: dense".
  virtual void on_part(std::string_view /*name*/) {}
  // Progress within the part. False ends the study with Cancelled.
  virtual bool on_progress(const Progress& /*progress*/) { return true; }
  // True ends the study with Cancelled. Called often, and so has to be fast.
  virtual bool should_stop() { return false; }
  // Something secondary went wrong; the study continues.
  virtual void on_warning(std::string_view /*text*/) {}
};

}  // namespace mochi::study
