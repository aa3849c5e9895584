// An analysis as a page to read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "study/analysis.h"

namespace mochi::study {

// What came out, in a few sentences with numbers.
std::vector<std::string> summarise_in_words(const Analysis& analysis);

// HTML in one file. `recipe` is describe_recipe()'s.
std::string make_analysis_page(const Analysis& analysis, const nlohmann::ordered_json& recipe);

}  // namespace mochi::study
