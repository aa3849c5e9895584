// From text features to latents: the steps of one video, the state after each of them, and the
// errors of those that fail.
#pragma once

#include "dit/dit.h"
#include "mochi/mochi.h"
#include "pipeline/euler_loop.h"

namespace mochi {

// Features of both branches; the unconditional branch's are absent if it is never run.
struct TextFeatures {
  Tensor cond;
  Tensor null;
};

struct VideoSamplingInputs {
  const Dit& model;
  const StepPlan& plan;
  const GenerateRequest& request;
  const TextFeatures& features;
  Observer& observer;
  const SampleOptions& options;
  const MessageFn& on_message;  // may be empty
};

// Throws InvalidRequest naming "start" unless a sampling of this size and number of steps can be
// resumed from it.
void check_start(const SamplerState& start, const Latents& wanted, int num_steps);

void upload_latents(Backend& backend, const Latents& latents, const TensorView& z);
Latents download_latents(Backend& backend, const TensorView& z);

// Moves z, [channels, T, H, W] f32, from where it stands to the end of the plan, and returns it.
// num_done is the number of complete steps at all times. An error of a step names the step. Before
// an error or Cancelled comes out, the observer's on_interrupted is called, if a step was
// completed.
Latents sample_video(Backend& backend, const VideoSamplingInputs& inputs, const TensorView& z,
                     int& num_done);

}  // namespace mochi
