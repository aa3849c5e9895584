// An analysis in sentences.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "study/analysis.h"

namespace mochi::study {

// The sparse run in captions ("sparse", or "skipping" if it only skips steps), its video in
// sentences, and the file of this video.
struct RunNames {
  std::string_view run, video, file;
};
RunNames name_run(const Analysis& analysis);

bool has_sparse_sites(const Analysis& analysis);

// Returns the verdict on the video and on the speed, and how many steps were evaluated if some may
// be skipped; one sentence each.
std::vector<std::string> judge(const Analysis& analysis);

// Returns the results in a few sentences with numbers.
std::vector<std::string> summarise_in_words(const Analysis& analysis);

// If another delta has a smaller error than the configured one, returns a sentence that says so and
// why this does not decide; otherwise returns an empty string.
std::string describe_better_delta(const Analysis& analysis);

inline constexpr const char* kNoSparseSites =
    "No site of this sampling was sparse: all attention was dense.";

}  // namespace mochi::study
