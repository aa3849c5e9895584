// The samplings and decodings that an analysis is made of.
#pragma once

#include <filesystem>

#include "study/analysis.h"
#include "io/video_format.h"

namespace mochi::study {

// Three samplings from the same noise: dense, sparse, and sparse again while every site is watched;
// the first two are decoded. Writes dense.mp4 and sparse.mp4 into `video_folder` unless it is
// empty. `request` has a sparsity. Throws Cancelled when a signal came.
Analysis run_analysis(Engine& engine, const GenerateRequest& request, FrameRate fps,
                      const std::filesystem::path& video_folder, bool is_quiet);

}  // namespace mochi::study
