// Runs the engine for a search.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "mochi/mochi.h"
#include "study/search.h"
#include "study/timing_observer.h"
#include "study/tune_observer.h"
#include "study/tune_record.h"

namespace mochi::study {

// The dense video of a prompt.
struct DenseVideo {
  GenerateRequest request;
  nlohmann::ordered_json recipe;  // which its latents carry
};

// Evaluates what the record does not know yet, and writes each result to disk at once. All calls
// throw Cancelled if the observer stops them.
class Evaluator {
 public:
  // `videos` has one for each prompt. `record` belongs to `folder`; both it and the observer must
  // outlive this.
  Evaluator(Engine& engine, std::vector<DenseVideo> videos, std::filesystem::path folder,
            TuneRecord& record, TuneObserver& observer);

  // Samples the dense videos that the record does not have. Throws Error if one of those that it
  // has was changed.
  void prepare_dense();

  Evaluation evaluate(const SparsityConfig& config, std::size_t prompt_idx);

  // Mean of the evaluations made here; 0 if there is none.
  double seconds_per_evaluation() const;

 private:
  struct Sample {
    Latents latents;
    RunTimes times;

    double seconds() const { return times.seconds.at(Phase::kSampling); }
  };

  Sample sample(const GenerateRequest& request) const;
  std::vector<std::uint8_t> decode_bytes(const Latents& latents);
  // Returns an evaluation's qualities.
  Evaluation compare(const Latents& dense, const Latents& sampled);

  Engine& engine_;
  std::vector<DenseVideo> videos_;
  std::filesystem::path folder_;
  TuneRecord& record_;
  TuneObserver& observer_;
  int num_made_ = 0;
  double made_seconds_ = 0;  // in total, decoding included
};

}  // namespace mochi::study
