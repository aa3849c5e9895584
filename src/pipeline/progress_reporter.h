// Turns the pieces of a phase into calls of the user's Observer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "io/tensor_source.h"
#include "mochi/mochi.h"

namespace mochi {

class ProgressReporter {
 public:
  // `observer` must outlive the reporter. Reports the beginning. The first `num_before` pieces were
  // done by an earlier run.
  ProgressReporter(Observer& observer, Phase phase, std::int64_t num_total, std::string item = "",
                   std::int64_t num_before = 0);

  // Throws Cancelled when the user wants to stop.
  void report(std::int64_t num_done);
  void advance() { report(num_done_ + 1); }
  // For the next reports of sampling.
  void set_evaluations(std::int64_t num_evaluated, double num_left) {
    num_evaluated_ = num_evaluated;
    num_evaluations_left_ = num_left;
  }
  // False where report() would throw.
  bool try_report(std::int64_t num_done);

 private:
  Observer& observer_;
  Phase phase_;
  std::int64_t num_total_;
  std::string item_;
  std::int64_t num_before_;
  std::int64_t num_done_;
  std::int64_t num_evaluated_ = 0;
  double num_evaluations_left_ = 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Another source, with a report for every tensor that is read from it.
class ReportingSource final : public TensorSource {
 public:
  ReportingSource(std::shared_ptr<const TensorSource> source, ProgressReporter& reporter)
      : source_(std::move(source)), reporter_(reporter) {}

  std::string description() const override { return source_->description(); }
  std::vector<std::string> names() const override { return source_->names(); }
  bool contains(std::string_view name) const override { return source_->contains(name); }
  TensorInfo info(std::string_view name) const override { return source_->info(name); }
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override { return source_->unread(); }

 private:
  std::shared_ptr<const TensorSource> source_;
  ProgressReporter& reporter_;
};

}  // namespace mochi
