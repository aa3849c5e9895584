// The whole of an analysis: videos, page and tables in one folder.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/video_format.h"
#include "mochi/mochi.h"
#include "study/study_observer.h"

namespace mochi::study {

struct AnalysisTask {
  GenerateRequest request;
  FrameRate fps;
  nlohmann::ordered_json recipe;  // from describe_recipe(), for the video of the request
  std::filesystem::path folder;   // an earlier report is replaced, other contents are refused
};

struct AnalysisOutcome {
  nlohmann::ordered_json json;     // the contents of report.json
  std::vector<std::string> words;  // the verdicts and the summary
  std::filesystem::path page;
};

// The folder is checked before the work and appears whole or not at all.
AnalysisOutcome analyze(Engine& engine, const AnalysisTask& task, StudyObserver& observer);

}  // namespace mochi::study
