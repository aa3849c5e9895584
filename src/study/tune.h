// The search for the fastest step skipping and sparse attention of a wanted quality.
#pragma once

#include <filesystem>
#include <vector>

#include "job/prompts_file.h"
#include "job/recipe.h"
#include "mochi/mochi.h"
#include "study/search_space.h"
#include "study/tune_observer.h"
#include "study/tune_record.h"

namespace mochi::study {

struct TuneTask {
  GenerateRequest base;  // shared by all videos, without prompt and sparsity
  job::Recipe recipe;    // likewise
  std::vector<job::LinePrompt> prompts;
  SparsityConfig start;  // its step skipping is not used
  SearchScope scope = SearchScope::kBoth;
  double min_psnr = 0;  // dB, mean over the prompts
  int max_trials = 1;
  std::filesystem::path folder;
  bool resumes = false;  // continue with the record in the folder, which is then required
};

// Returns the workload of the base request. Throws InvalidRequest naming "num_steps" if it has too
// few steps to search.
Workload make_workload(const GenerateRequest& base, const ModelInfo& model, SearchScope scope);

// Tries configurations and writes the record, the report and, if a trial is good enough, the
// fastest configuration into the folder. Checks the outputs before the work. A search that was
// cancelled or killed can be resumed. Throws Error naming the prompt or the file.
TuneRecord tune(Engine& engine, const TuneTask& task, TuneObserver& observer);

}  // namespace mochi::study
