// A judgement of two videos in words, by their PSNR.
#pragma once

#include <span>
#include <string>

#include "io/video_quality.h"

namespace mochi::study {

// Returns whether a viewer will see a difference: "You will not see the difference: 45.2 dB; ...".
// It states the worst frame, and says so if that one is worse than the verdict on the whole video.
// Thresholds: 40, 35, 30 and 25 dB (docs/analysis.md). There is a frame or more.
std::string make_verdict(std::span<const FrameQuality> frames);

// Returns how long sampling took: "Sampling was 1.35 times as fast: 26.3 s instead of 35.4 s."
std::string describe_gain(double dense_seconds, double sparse_seconds);

// "0.42 s", "12.3 s", "214 s".
std::string format_duration(double seconds);

}  // namespace mochi::study
