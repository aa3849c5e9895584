// An analysis as numbers for other programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "study/analysis.h"

namespace mochi::study {

// A row for each branch, layer, step and head. What a skipped site does not have is left empty.
std::string make_sites_csv(const Analysis& analysis);
// A row for each step.
std::string make_steps_csv(const Analysis& analysis);

// The steps, the frames, the times and the means of all; null where there is no number.
nlohmann::ordered_json describe_analysis(const Analysis& analysis);

}  // namespace mochi::study
