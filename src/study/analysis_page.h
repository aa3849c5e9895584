// An analysis as a page to read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "study/analysis.h"

namespace mochi::study {

// Makes one HTML file, which links the videos next to it. `recipe` comes from describe_recipe().
std::string make_analysis_page(const Analysis& analysis, const nlohmann::ordered_json& recipe);

}  // namespace mochi::study
