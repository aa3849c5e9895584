#include "pipeline/progress_reporter.h"

#include <utility>

namespace mochi {

ProgressReporter::ProgressReporter(const ProgressFn& on_progress, Phase phase,
                                   std::int64_t num_total, std::string item,
                                   std::int64_t num_before)
    : on_progress_(on_progress),
      phase_(phase),
      num_total_(num_total),
      item_(std::move(item)),
      num_before_(num_before),
      num_done_(num_before) {
  report(num_before);
}

bool ProgressReporter::try_report(std::int64_t num_done) {
  num_done_ = num_done;
  if (!on_progress_) return true;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin_;
  return on_progress_({phase_, item_, num_done, num_total_, elapsed.count(), num_before_});
}

void ProgressReporter::report(std::int64_t num_done) {
  if (!try_report(num_done)) throw Cancelled();
}

std::vector<StoredRows> ReportingSource::stored_rows(std::string_view name) const {
  reporter_.advance();
  return source_->stored_rows(name);
}

}  // namespace mochi
