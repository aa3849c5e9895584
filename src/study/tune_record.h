// trials.json: the results of a search so far, and its settings.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "study/cost_model.h"
#include "study/trial.h"

namespace mochi::study {

// The dense video of one prompt; its latents are in a separate file.
struct DenseRun {
  double seconds = 0;       // sampling time
  double step_seconds = 0;  // median of its steps
  std::string fingerprint;  // identifies the latents' file
};

struct TuneRecord {
  nlohmann::ordered_json settings;  // everything that the evaluations depend on, as one flat object
  SparsityConfig start = {};        // evaluates every step
  Workload workload = {};
  Goal goal = {};
  std::vector<DenseRun> dense = {};  // for the first prompts
  std::vector<Trial> trials = {};    // in the order in which they were begun

  std::vector<double> dense_seconds() const;
  std::vector<double> dense_step_seconds() const;
  // Returns the model that the search uses. It cannot predict sparse attention before the start has
  // been tried on all prompts.
  CostModel costs() const;
  // Nothing if the trial's time cannot be predicted.
  std::optional<double> predict_seconds(std::size_t trial_idx) const;
  // Returns the index of the fastest good trial.
  std::optional<std::size_t> fastest() const { return find_fastest(trials, goal); }
  std::optional<std::size_t> find(const SparsityConfig& config) const;
  // Returns the index of the trial of a configuration, which is added if there is none.
  std::size_t find_or_add(const SparsityConfig& config);
};

std::filesystem::path record_path(const std::filesystem::path& folder);  // trials.json
std::filesystem::path latents_path(const std::filesystem::path& folder,  // dense/001.safetensors
                                   std::size_t prompt_idx);

// Adds the contents of the folder's file to `record`, which has the settings of this run. Throws
// Error if there is no file, if it is damaged or of another version, or if it has other settings.
void read_record(const std::filesystem::path& folder, TuneRecord& record);

// Writes the file, which replaces an earlier one when it is complete.
void write_record(const std::filesystem::path& folder, const TuneRecord& record);

}  // namespace mochi::study
