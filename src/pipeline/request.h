// Checks of requests, and values derived from them.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "mochi/mochi.h"
#include "pipeline/euler_loop.h"
#include "pipeline/model_config.h"
#include "tensor/shape.h"

namespace mochi {

// The defaults of a model as a request.
GenerateRequest make_default_request(const GenerationDefaults& defaults);

// [channels, num_frames, height, width]
Shape shape_of(const Latents& latents);

// Latents without values for a video of this size. Throws InvalidRequest naming the field that does
// not fit the model ("width", "height", "num_frames") and the nearest values that do.
Latents size_latents(const ModelConfig& config, const VideoSize& size);

// Throws InvalidRequest naming "latents" when they do not fit the model.
VideoSize size_video(const ModelConfig& config, const Latents& latents);

// Throws InvalidRequest naming `field` unless the value is one of its type's choices: a cast can
// make others.
template <typename Choices>
void check_choice(const char* field, typename Choices::value_type value, const Choices& choices) {
  if (std::ranges::find(choices, value) != choices.end()) return;
  refuse(field, "wanted a value of its type, found {}", static_cast<int>(value));
}

// Throws InvalidRequest naming `field` unless there are as many values as latents of this size
// have, all of them finite.
void check_values(const char* field, const Latents& size, std::span<const float> values);

// Throws InvalidRequest naming `field` unless the text is UTF-8.
void check_text(const char* field, const std::string& text);

// Noise levels and guidance of every step. Throws InvalidRequest.
StepPlan make_step_plan(const GenerateRequest& request);

// Throws InvalidRequest naming the field that is wrong.
void check_request(const ModelConfig& config, const GenerateRequest& request);

}  // namespace mochi
