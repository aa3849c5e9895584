// An analysis as numbers for other programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "study/analysis.h"

namespace mochi::study {

// Makes a row for each branch, layer, step and head. Cells without a value are empty.
std::string make_sites_csv(const Analysis& analysis);
// Makes a row for each step.
std::string make_steps_csv(const Analysis& analysis);

// Returns steps, frames, times and means; null if there is no number.
nlohmann::ordered_json describe_analysis(const Analysis& analysis);

}  // namespace mochi::study
