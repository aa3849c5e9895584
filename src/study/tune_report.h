// What `mochi tune` says of its trials: lines, a table, a page.
#pragma once

#include <filesystem>
#include <string>

#include "study/tune_record.h"

namespace mochi::study {

std::filesystem::path report_path(const std::filesystem::path& folder);  // report.html
std::filesystem::path config_path(const std::filesystem::path& folder);  // chipmunk-config.yml

// One line when a trial has ended. seconds_left: what the other trials may take; 0: not known.
std::string describe_progress(const TuneRecord& record, std::size_t trial_idx, double seconds_left);

// "the best, trial 3, has 28.10 dB".
std::string describe_best(const TuneRecord& record);

// The Pareto front as a table for a terminal, and which trial is the fastest good one.
std::string make_summary(const TuneRecord& record);

// The page: the plot, and all trials.
std::string make_report(const TuneRecord& record);

}  // namespace mochi::study
