// Checks of what a caller asks for, and what follows from it.
#pragma once

#include "mochi/mochi.h"
#include "pipeline/model_config.h"
#include "pipeline/sampler.h"

namespace mochi {

// The defaults of a model as a request.
GenerateRequest make_default_request(const GenerationDefaults& defaults);

// Latents without values for a video of this size. Throws Error naming the field that does not fit
// the model ("width", "height", "num_frames") and the nearest values that do.
Latents size_latents(const ModelConfig& config, const VideoSize& size);

// Throws Error when the latents do not fit the model.
VideoSize size_video(const ModelConfig& config, const Latents& latents);

// Noise levels and guidance of every step. Throws Error naming the field.
SamplingPlan make_sampling_plan(const GenerateRequest& request);

// Throws Error naming the field that is wrong.
void check_request(const ModelConfig& config, const GenerateRequest& request);

}  // namespace mochi
