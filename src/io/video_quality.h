// The quality of one video compared with another, frame by frame.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/stop.h"

namespace mochi {

// The difference of two frames [height, width, 3] of RGB bytes.
struct FrameQuality {
  double psnr = 0;  // dB over all bytes, peak 255; infinite for equal frames
  double ssim = 0;  // structural similarity of the luma (Wang, Bovik, Sheikh, Simoncelli 2004)
  int largest_difference = 0;  // largest difference of two bytes
};

// SSIM as published: Gaussian window of 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03, mean over all
// positions where the window is inside. Luma by BT.601. Frames below 11 pixels in height or width
// have one window, cut to their size.
FrameQuality compare_frames(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                            int width, int height);

// PSNR over all bytes of a video of such frames, which one equal frame does not make infinite.
double whole_psnr(std::span<const FrameQuality> frames);
// &FrameQuality::psnr or ssim.
double mean_of(std::span<const FrameQuality> frames, double FrameQuality::* member);

struct VideoQuality {
  std::vector<FrameQuality> frames;
  std::vector<std::string> notes;  // the readers' warnings, one line each
};

// Compares two videos, images or folders of images. Throws Error naming the files if they differ in
// size or length or have no frames, and Cancelled if should_stop returns true.
VideoQuality compare_videos(const std::filesystem::path& first, const std::filesystem::path& second,
                            const StopFn& should_stop);

// Throws Error: they are of different kinds, sizes or lengths, which are described.
[[noreturn]] void fail_to_compare(const std::filesystem::path& first,
                                  const std::string& found_first,
                                  const std::filesystem::path& second,
                                  const std::string& found_second);

}  // namespace mochi
