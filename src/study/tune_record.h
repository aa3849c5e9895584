// trials.json: what `mochi tune` has found so far, and for which settings.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "study/trial.h"

namespace mochi::study {

// The dense video of one prompt; its latents are in a file of their own.
struct DenseRun {
  double seconds = 0;       // of the sampling
  std::string fingerprint;  // of the latents' file
};

struct TuneRecord {
  nlohmann::ordered_json settings;  // all that the evaluations depend on: one flat object
  Goal goal;
  int num_steps = 0;
  std::vector<DenseRun> dense = {};  // of the first prompts
  std::vector<Trial> trials = {};    // as they were begun

  std::vector<double> dense_seconds() const;
  // Index of the fastest good trial.
  std::optional<std::size_t> fastest() const { return find_fastest(trials, goal); }
  // Index of the trial of a configuration, which is added when it is not there.
  std::size_t find_or_add(const SparsityConfig& config);
};

std::filesystem::path record_path(const std::filesystem::path& folder);  // trials.json
std::filesystem::path latents_path(const std::filesystem::path& folder,  // dense/001.safetensors
                                   std::size_t prompt_idx);

// Puts what the folder's file holds into `record`, whose settings are those of this run. Throws
// Error when there is no file, when it is damaged, or when it is for other settings.
void read_record(const std::filesystem::path& folder, TuneRecord& record);

// The file appears whole, in place of an earlier one.
void write_record(const std::filesystem::path& folder, const TuneRecord& record);

}  // namespace mochi::study
