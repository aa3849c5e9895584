// Runs the engine for `mochi tune`.
#pragma once

#include <filesystem>
#include <vector>

#include "study/search.h"
#include "study/tune_record.h"
#include "mochi/mochi.h"

namespace mochi::study {

// Evaluates what the record does not know yet and writes each result down at once. All calls throw
// Cancelled when a signal came.
class Evaluator {
 public:
  // `requests`: one for each prompt, dense. `record` lies in `folder`; both outlive this.
  Evaluator(Engine& engine, std::vector<GenerateRequest> requests, std::filesystem::path folder,
            TuneRecord& record, bool is_quiet);

  // Samples the dense videos that are not there yet. Throws Error when one has changed since.
  void prepare_dense();

  Evaluation evaluate(const SparsityConfig& config, std::size_t prompt_idx);

  // Of those made here, in the mean; 0 when there is none.
  double seconds_per_evaluation() const;

 private:
  struct Sample {
    Latents latents;
    double seconds = 0;  // of the sampling phase
  };

  Sample sample(const GenerateRequest& request) const;
  Evaluation compare(const Latents& dense, const Sample& sparse);

  Engine& engine_;
  std::vector<GenerateRequest> requests_;
  std::filesystem::path folder_;
  TuneRecord& record_;
  bool is_quiet_;
  int num_made_ = 0;
  double made_seconds_ = 0;  // all that it took, decoding included
};

}  // namespace mochi::study
