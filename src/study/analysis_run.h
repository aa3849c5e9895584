// The samplings and decodings that an analysis is made of.
#pragma once

#include <filesystem>

#include "io/video_format.h"
#include "study/analysis.h"
#include "study/study_observer.h"

namespace mochi::study {

// Samples three times from the same noise: all steps with dense attention; as `request` says; and
// so again with measurements. The first two videos are decoded and written to `folder`; if they
// cannot be written, there is a warning, and the analysis has no videos. Throws what the engine
// throws.
Analysis run_analysis(Engine& engine, const GenerateRequest& request, FrameRate fps,
                      const std::filesystem::path& folder, StudyObserver& observer);

}  // namespace mochi::study
