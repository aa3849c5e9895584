// Progress in words that fit into a line.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>

#include "mochi/mochi.h"

namespace mochi::cli {

// "1:02:03", "12:34", "0:07".
std::string format_clock(double seconds);
// "0.42 s", "12.3 s", "214 s".
std::string format_seconds(double seconds);

// " [####....]" of so many columns between the brackets; the fraction is from 0 to 1.
std::string draw_bar(double fraction, std::size_t width);

// Returns the first of the texts that fits; if none does, the last one, cut.
std::string first_that_fits(std::initializer_list<std::string> texts, std::size_t max_columns);

// "sampling [####....] 12/64, 0:12, 0.98 s/step, 0:51 left", in at most `max_columns` columns. The
// least important parts are left out first. The clock also runs between two reports of the engine:
// `seconds_since` have passed since this one.
std::string describe_running(const Progress& progress, double seconds_since,
                             std::size_t max_columns);

// "sampling: 64 steps in 62.3 s, 0.97 s/step", likewise.
std::string describe_end(const Progress& progress, std::size_t max_columns = std::string::npos);

// "sampling: 64 steps", "loading the transformer ...", for output with one line per report.
std::string describe_begin(const Progress& progress);

// "sampling: 12/64, 0.98 s/step, 0:51 left".
std::string describe_state(const Progress& progress);

bool is_begin(const Progress& progress);
bool is_end(const Progress& progress);

// From 0 to 1.
double fraction_of(const Progress& progress);

}  // namespace mochi::cli
