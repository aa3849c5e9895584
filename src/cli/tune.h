// `mochi tune`: the fastest step skipping and sparse attention of a wanted quality.
#pragma once

#include "cli/tune_options.h"

namespace mochi::cli {

// Throws UsageError for flags that do not fit together or the model, Error for all else (also when
// no trial is good enough), Cancelled when a signal came.
void run_tune(TuneOptions options);

}  // namespace mochi::cli
