// The trials of a search in words: lines, a table, a page.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "study/tune_record.h"

namespace mochi::study {

std::filesystem::path report_path(const std::filesystem::path& folder);  // report.html
std::filesystem::path config_path(const std::filesystem::path& folder);  // chipmunk-config.yml

// Returns one line about a trial that has ended.
std::string describe_progress(const TuneRecord& record, std::size_t trial_idx);

// Returns "the best, trial 3, has 28.10 dB".
std::string describe_best(const TuneRecord& record);

// Returns the lines of a table of the Pareto front, and a line about the fastest good trial.
std::vector<std::string> make_summary(const TuneRecord& record);

// Makes an HTML page with a plot and all trials.
std::string make_report(const TuneRecord& record);

}  // namespace mochi::study
