#include "pipeline/progress_reporter.h"

#include <utility>

namespace mochi {

ProgressReporter::ProgressReporter(Observer& observer, Phase phase, std::int64_t num_total,
                                   std::string item, std::int64_t num_before)
    : observer_(observer),
      phase_(phase),
      num_total_(num_total),
      item_(std::move(item)),
      num_before_(num_before),
      num_done_(num_before) {
  report(num_before);
}

bool ProgressReporter::try_report(std::int64_t num_done) {
  num_done_ = num_done;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin_;
  const bool goes_on = observer_.on_progress({phase_, item_, num_done, num_total_, elapsed.count(),
                                              num_before_, num_evaluated_, num_evaluations_left_});
  return goes_on && !observer_.should_stop();
}

void ProgressReporter::report(std::int64_t num_done) {
  if (!try_report(num_done)) throw Cancelled();
}

std::vector<StoredRows> ReportingSource::stored_rows(std::string_view name) const {
  reporter_.advance();
  return source_->stored_rows(name);
}

}  // namespace mochi
