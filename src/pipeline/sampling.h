// From text features to latents: the steps of one video, what is kept of them, and what is said
// when one fails.
#pragma once

#include "dit/dit.h"
#include "mochi/mochi.h"
#include "pipeline/sampler.h"

namespace mochi {

// Features of both branches; the null branch's are absent where it is never run.
struct TextFeatures {
  Tensor cond;
  Tensor null;
};

struct SamplingInputs {
  const Dit& model;
  const SamplingPlan& plan;
  const GenerateRequest& request;
  const TextFeatures& features;
  const ProgressFn& on_progress;
  const SampleControl& control;
};

// Throws Error unless a sampling of this size and number of steps can go on from here.
void check_start(const SamplerState& start, const Latents& wanted, int num_steps);

void upload_latents(Backend& backend, const Latents& latents, const TensorView& z);
Latents download_latents(Backend& backend, const TensorView& z);

// Moves z, [channels, T, H, W] f32, from where it stands to the end of the plan; num_done is how
// many steps it has come, at all times. An error of a step names it; the latents before it have
// gone to control.on_checkpoint, if there is one, before the error comes out.
void run_sampling(Backend& backend, const SamplingInputs& inputs, const TensorView& z,
                  int& num_done);

}  // namespace mochi
